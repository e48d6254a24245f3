"""References, descriptors and manifests: what is read, and that all else is refused in a sentence."""

import copy
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.core.text import quoted
from scaffold.errors import ScaffoldError, UsageError
from scaffold.oci.reference import Reference, default_name
from scaffold.oci.spec import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA_1,
    INDEX,
    MANIFEST,
    MANIFEST_LIMIT,
    Descriptor,
    ImageError,
    Manifest,
    digest,
    document,
    is_digest,
    kind_of,
)

PIN = "sha256:" + "0123456789abcdef" * 4
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"  # as the distribution specification has it
REPOSITORY = re.compile(rf"{COMPONENT}(?:/{COMPONENT})*")


# references

REGISTRIES = st.sampled_from(
    [
        "localhost",
        "localhost:5000",
        "127.0.0.1:1",
        "[::1]:5000",
        "[2001:db8::1]",
        "a.b",
        "A-1.example.com:65535",
    ]
)
NAMES = (
    st.lists(st.from_regex(re.compile(COMPONENT), fullmatch=True), min_size=1, max_size=4)
    .map("/".join)
    .filter(lambda name: len(name) < 200)
)
TAGS = st.text(st.sampled_from("azAZ09_.-"), min_size=1, max_size=128).filter(lambda tag: tag[0] not in ".-")
PINS = st.binary(min_size=32, max_size=32).map(lambda number: f"sha256:{number.hex()}")


@given(REGISTRIES, NAMES, st.none() | TAGS, st.none() | PINS)
def test_the_parts_of_a_reference_come_back_as_they_were_written(registry, repository, tag, pin):
    rest = f"/{repository}" + (f":{tag}" if tag else "") + (f"@{pin}" if pin else "")
    text = registry.lower() + rest  # a host has one name, however it is written
    reference = Reference.parse(registry + rest)
    assert reference == Reference(registry.lower(), repository, tag if tag or pin else "latest", pin)
    assert not reference.local
    assert Reference.parse(str(reference)) == reference
    assert str(reference) == text if tag or pin else f"{text}:latest"


@given(st.sampled_from(["docker.io/", "index.docker.io/", "oci://docker.io/library/"]), NAMES, TAGS)
def test_every_way_of_writing_an_image_of_docker_hub_reads_back(prefix, name, tag):
    reference = Reference.parse(f"{prefix}{name}:{tag}")
    assert Reference.parse(str(reference)) == reference
    assert reference.tag == tag


@pytest.mark.parametrize(
    ("text", "registry", "repository", "name"),
    [
        ("hello", "docker.io", "library/hello", "hello"),
        ("docker.io/hello", "docker.io", "library/hello", "hello"),
        ("index.docker.io/library/hello", "docker.io", "library/hello", "hello"),
        ("acme/hello", "docker.io", "acme/hello", "acme/hello"),
        ("docker.io/acme/hello", "docker.io", "acme/hello", "acme/hello"),
        ("library/acme/hello", "docker.io", "library/acme/hello", "docker.io/library/acme/hello"),
        ("docker.io/acme.dev/hello", "docker.io", "acme.dev/hello", "docker.io/acme.dev/hello"),
        ("docker.io/localhost/hello", "docker.io", "localhost/hello", "docker.io/localhost/hello"),
        ("localhost/hello", "localhost", "hello", "localhost/hello"),
        ("oci://example.com/acme/hello", "example.com", "acme/hello", "example.com/acme/hello"),
    ],
)
def test_where_an_image_is(text, registry, repository, name):
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.name) == (registry, repository, name)
    assert reference.local == (repository == "library/hello")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Hello", "hello"),
        ("Acme/Hello:V1", "acme/hello:V1"),
        ("example.com/Acme/hello:1", "example.com/acme/hello:1"),
        (f"example.com/A@{PIN}", f"example.com/a@{PIN}"),
    ],
)
def test_the_hint_for_capital_letters_keeps_the_rest(text, meant):
    with pytest.raises(UsageError) as caught:
        Reference.parse(text)
    assert caught.value.hint == f"did you mean `{meant}`?"


def test_a_digest_pins_and_is_kept_beside_the_tag():
    reference = Reference.parse("example.com/hello:0.1.0")
    assert str(reference.pinned(PIN)) == f"example.com/hello:0.1.0@{PIN}"
    assert Reference.parse(f"example.com/hello@{PIN}").tag is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "`` can't be part of a repository's name"),
        ("/hello", "`` can't be part"),
        ("hello/", "`` can't be part"),
        ("a//b", "`` can't be part"),
        ("Hello", "a repository's name must be in lower case"),
        ("Acme/hello", "a repository's name must be in lower case"),
        ("example.com/Acme/Hello:V1", "a repository's name must be in lower case"),
        ("hällo", "`hällo` can't be part"),
        ("hello world", "`hello world` can't be part"),
        ("-hello", "`-hello` can't be part"),
        ("hello_", "`hello_` can't be part"),
        ("a___b", "`a___b` can't be part"),
        ("a..b", "`a..b` can't be part"),
        ("../hello", "`..` isn't a valid registry"),
        ("hello\n", "can't be part"),
        ("a" * 256, "a name has at most 255 characters"),
        ("example.com/" + "a/" * 130 + "a", "a name has at most 255 characters"),
        ("hello:0.1.0+build", "a tag can't hold a `+`"),
        ("hello:", "`` isn't a valid tag"),
        ("hello:.1", "`.1` isn't a valid tag"),
        ("hello:a b", "`a b` isn't a valid tag"),
        ("hello:" + "1" * 129, "a tag has at most 128 characters, but this one has 129"),
        ("hello:1:2", "`hello:1` can't be part"),
        ("hello@", "`` isn't a digest"),
        ("hello@sha256:", "`sha256:` isn't a digest"),
        ("hello@" + PIN[:-1], "isn't a digest"),
        ("hello@" + PIN.upper(), "isn't a digest"),
        ("hello@" + PIN.replace("256", "512"), "isn't a digest"),
        (f"hello@{PIN}@{PIN}", "isn't a digest"),
        (f"hello@{PIN}:1", "isn't a digest"),
        ("https://example.com/hello", "`https:` isn't a valid registry"),
        ("oci://oci://hello", "`oci:` isn't a valid registry"),
        ("example.com:/hello", "`example.com:` isn't a valid registry"),
        ("example.com:0/hello", "`example.com:0` isn't a valid registry"),
        ("example.com:65536/hello", "`example.com:65536` isn't a valid registry"),
        ("example.com:http/hello", "`example.com:http` isn't a valid registry"),
        ("user:secret.example.com/hello", "isn't a valid registry"),
        ("example..com/hello", "`example..com` isn't a valid registry"),
        ("-a.example.com/hello", "`-a.example.com` isn't a valid registry"),
        ("[::1/hello", "`[::1` isn't a valid registry"),
        ("[1:2]/hello", "`[1:2]` isn't a valid registry"),
        ("example.com/", "`` can't be part"),
        ("example.com", None),  # a repository of Docker Hub, as Docker has it
    ],
)
def test_what_no_reference_can_be_is_named(text, says):
    if says is None:
        assert Reference.parse(text).repository == f"library/{text}"
        return
    with pytest.raises(UsageError, match=re.escape(says)):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Acme/Hello", "did you mean `acme/hello`?"),
        ("example.com/Hello", "did you mean `example.com/hello`?"),
        ("Hello", "did you mean `hello`?"),
        ("hello:1.0+rc.1", "the usual replacement is `1.0_rc.1`"),
    ],
)
def test_the_hint_is_what_was_meant(text, hint):
    with pytest.raises(UsageError) as caught:
        Reference.parse(text)
    assert caught.value.hint == hint


TEXTS = (
    st.text()
    | st.text("aZ0./:@-_[]+ \n")
    | st.lists(st.sampled_from([*"a:/@.-_", PIN, "a.b", "oci://"])).map("".join)
)


@given(TEXTS)
def test_any_text_is_a_reference_that_reads_back_or_a_usage_error(text):
    try:
        reference = Reference.parse(text)
    except UsageError:
        return
    assert Reference.parse(str(reference)) == reference
    assert REPOSITORY.fullmatch(reference.repository)


@pytest.mark.parametrize(
    ("crate", "name"),
    [
        ("hello_world", "hello_world"),
        ("hello-world", "hello-world"),
        ("A_B", "a_b"),
        ("_x", "x"),
        ("a-", "a"),
        ("a__b", "a__b"),
        ("a___b", "a-b"),
        ("a---b", "a---b"),
        ("a-_b", "a-b"),
        ("été", "t"),
        ("_", "plugin"),
        ("", "plugin"),
        ("a" * 300, "a" * 128),
    ],
)
def test_what_a_crates_image_is_called(crate, name):
    assert default_name(crate) == name


@given(st.text() | st.text("aB0-_.", max_size=300))
def test_a_crates_image_always_has_a_name_that_is_one(crate):
    name = default_name(crate)
    reference = Reference.parse(f"example.com/{name}:1")
    assert (reference.repository, reference.tag) == (name, "1")
    assert Reference.parse(name).local


# manifests

CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(b"{}"), "size": 2}
LAYER = {"mediaType": "application/wasm", "digest": digest(b"x"), "size": 1, "annotations": {"a": "b"}}
RECORD = {
    "schemaVersion": 2,
    "mediaType": MANIFEST,
    "config": CONFIG,
    "layers": [LAYER],
    "annotations": {"org.opencontainers.image.title": "hello"},
}


def changed(**fields):
    return {**RECORD, **fields}


def read(record, media_type=""):
    return Manifest.read(json.dumps(record).encode(), media_type)


def test_a_manifest_keeps_the_bytes_that_its_digest_is_of():
    raw = json.dumps(RECORD, indent=3).encode() + b"\n"
    manifest = Manifest.read(raw)
    assert (manifest.raw, manifest.digest, manifest.media_type) == (raw, digest(raw), MANIFEST)
    assert manifest.config == Descriptor(CONFIG["mediaType"], CONFIG["digest"], 2)
    assert manifest.layers == (Descriptor("application/wasm", LAYER["digest"], 1, {"a": "b"}),)
    assert manifest.annotations == {"org.opencontainers.image.title": "hello"}
    assert manifest.size == len(raw) + 3


def test_a_blob_that_stands_twice_counts_once():
    manifest = read(changed(layers=[CONFIG, LAYER, LAYER]))
    assert [blob.digest for blob in manifest.blobs] == [CONFIG["digest"], LAYER["digest"]]


@pytest.mark.parametrize(
    ("record", "came", "kind"),
    [
        ({}, "", ""),
        ({"layers": []}, "", MANIFEST),
        ({"manifests": []}, "", INDEX),
        ({"layers": []}, DOCKER_MANIFEST, DOCKER_MANIFEST),
        ({"layers": []}, f"{DOCKER_MANIFEST}; charset=utf-8", DOCKER_MANIFEST),
        ({"mediaType": DOCKER_LIST}, "", DOCKER_LIST),
        ({"mediaType": MANIFEST}, "application/json", MANIFEST),
        ({"mediaType": "text/plain"}, "", "text/plain"),
        ({"schemaVersion": 1}, "", DOCKER_SCHEMA_1[0]),
        ({"schemaVersion": 1}, DOCKER_SCHEMA_1[1], DOCKER_SCHEMA_1[0]),
    ],
)
def test_what_a_manifest_is(record, came, kind):
    assert kind_of(record, came) == kind


@pytest.mark.parametrize(
    ("record", "came", "says"),
    [
        (RECORD, DOCKER_MANIFEST, f'has the media type "{MANIFEST}", but was sent as "{DOCKER_MANIFEST}"'),
        (RECORD, INDEX, "but was sent as"),
        (changed(manifests=[]), "", "claims to be both an image and an index"),
        (changed(mediaType=""), INDEX, "it isn't an image: its manifest has the type"),
        ({"mediaType": MANIFEST, "manifests": [LAYER]}, "", "its manifest has no layers"),
        ({"manifests": [LAYER]}, "", f'it isn\'t an image: its manifest has the type "{INDEX}"'),
        ({"manifests": [LAYER], "mediaType": DOCKER_LIST}, "", f'has the type "{DOCKER_LIST}"'),
        ({"schemaVersion": 1, "fsLayers": []}, "", "a Docker image of the old schema 1"),
        ({"mediaType": DOCKER_SCHEMA_1[1]}, "", "a Docker image of the old schema 1"),
        (changed(mediaType="text/html"), "", 'has the type "text/html"'),
        (changed(mediaType={"a": 1}), "", 'media type isn\'t a string: {"a": 1}'),
        ({}, "", 'has the type "unknown"'),
        (changed(layers=None), "", "its manifest has no layers"),
        (changed(layers=[7]), "", "layer 0 isn't a descriptor"),
        (changed(config=None), "", "the manifest's config isn't a descriptor"),
        (changed(config={**CONFIG, "mediaType": 1}), "", "the manifest's config has no media type"),
        (changed(layers=[LAYER, {**LAYER, "size": -1}]), "", "layer 1 has no valid size: -1"),
        (changed(layers=[{**LAYER, "size": True}]), "", "layer 0 has no valid size: true"),
        (changed(layers=[{**LAYER, "size": 1.0}]), "", "layer 0 has no valid size: 1.0"),
        (changed(layers=[{**LAYER, "size": 2**63}]), "", "layer 0 has no valid size"),
        (changed(layers=[{**LAYER, "size": "1"}]), "", 'layer 0 has no valid size: "1"'),
        (changed(layers=[LAYER, {**LAYER, "size": 2}]), "", "states two sizes for one blob"),
        (changed(layers=[{**LAYER, "digest": "sha512:" + "0" * 128}]), "", "no digest that can be verified"),
        (changed(layers=[{**LAYER, "digest": "md5:x\x1b[31m"}]), "", r'verified: "md5:x\u001b[31m"'),
        (
            changed(layers=[{**LAYER, "digest": LAYER["digest"].upper()}]),
            "",
            "no digest that can be verified",
        ),
        (changed(annotations={"a": 1}), "", "its annotations aren't strings"),
        (changed(annotations=["a"]), "", "its annotations aren't strings"),
        (changed(layers=[{**LAYER, "annotations": "a"}]), "", "its annotations aren't strings"),
    ],
)
def test_what_is_no_manifest_is_refused_in_a_sentence(record, came, says):
    with pytest.raises(ImageError, match=re.escape(says)):
        read(record, came)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "its manifest isn't JSON"),
        (b"<html>", "its manifest isn't JSON"),
        (b"[]", "its manifest isn't a JSON object"),
        (b"\xff\xfe", "its manifest isn't JSON"),
        (json.dumps(RECORD).encode("utf-16"), "its manifest isn't JSON"),
        (json.dumps(RECORD).encode("utf-8-sig"), "its manifest isn't JSON"),
        (json.dumps(changed(mediaType="\ud800")).encode(), "its manifest isn't JSON"),
        (b'{"layers": [], "layers": []}', "a key appears twice"),
        (b'{"layers": [], "Layers": []}', "a key appears twice"),
        ('{"layers": [], "layer\u017f": []}'.encode(), "a key appears twice"),
        (b"[" * 100_000, "its manifest isn't JSON"),
        (b'{"size": ' + b"9" * 5000 + b"}", "its manifest isn't JSON"),
        (b" " * MANIFEST_LIMIT + b"{}", "its manifest has 4,194,306 bytes"),
    ],
)
def test_what_is_no_json_object_is_refused_in_a_sentence(raw, says):
    with pytest.raises(ImageError, match=re.escape(says)):
        Manifest.read(raw)


def test_another_documents_error_says_which():
    with pytest.raises(ImageError, match="its index isn't a JSON object"):
        document(b"1", "index")


@pytest.mark.parametrize("depth", range(900, 1000, 3))
def test_json_of_any_depth_is_refused_in_a_sentence(depth):
    deep = "[" * depth + "]" * depth
    for field in ("mediaType", "digest", "size"):
        layer = json.dumps({**LAYER, field: "HERE"}).replace('"HERE"', deep)
        with pytest.raises(ImageError):
            Manifest.read(f'{{"config": {json.dumps(CONFIG)}, "layers": [{layer}]}}'.encode())
    with pytest.raises(ImageError):
        Manifest.read(f'{{"mediaType": {deep.replace("[]", "[1]")}, "layers": []}}'.encode())


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def assert_manifest_or_image_error(raw, media_type=""):
    try:
        manifest = Manifest.read(raw, media_type)
    except ImageError as error:
        assert "\n" not in error.message
        return
    assert manifest.raw == raw
    assert all(blob.size >= 0 and blob.digest.startswith("sha256:") for blob in manifest.blobs)
    assert manifest.size >= len(raw)
    json.dumps([layer.write() for layer in manifest.layers], ensure_ascii=False).encode()


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_a_manifest_or_an_image_error(raw):
    assert_manifest_or_image_error(raw)


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


KEYS = ("mediaType", "digest", "size", "annotations", "manifests", "layers", "config", "platform", "")
VALUES = JSON | st.sampled_from([MANIFEST, INDEX, DOCKER_LIST, *DOCKER_SCHEMA_1, CONFIG, LAYER, [LAYER], {}])


@st.composite
def mutations(draw):
    """A valid manifest with one value replaced, added or taken away."""
    record = copy.deepcopy(RECORD)
    *path, last = draw(st.sampled_from([path for path in places(RECORD) if path]))
    inside = record
    for key in path:
        inside = inside[key]
    if isinstance(inside, dict) and draw(st.booleans()):
        inside[draw(st.sampled_from(KEYS))] = draw(VALUES)
    elif draw(st.booleans()):
        inside[last] = draw(VALUES)
    else:
        del inside[last]
    return json.dumps(record).encode()


@given(mutations(), st.sampled_from(["", MANIFEST, INDEX, DOCKER_MANIFEST, "text/plain", *DOCKER_SCHEMA_1]))
def test_a_changed_manifest_is_a_manifest_or_an_image_error(raw, media_type):
    assert_manifest_or_image_error(raw, media_type)


@given(st.data())
def test_a_manifest_with_other_bytes_in_it_is_a_manifest_or_an_image_error(data):
    raw = bytearray(json.dumps(RECORD).encode())
    at = data.draw(st.integers(0, len(raw)))
    raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    assert_manifest_or_image_error(bytes(raw))


@given(SCALARS | JSON)
def test_foreign_data_is_shown_in_a_line_that_can_be_printed(value):
    line = quoted(value)
    assert line.isprintable()
    line.encode()


def test_image_errors_are_errors_of_the_module():
    assert ImageError.exit_code == 6
    assert issubclass(ImageError, ScaffoldError)


# limits


def test_a_manifest_may_have_exactly_4_mib():
    raw = json.dumps(RECORD).encode()
    assert Manifest.read(raw.ljust(4 * 2**20)).config.digest == CONFIG["digest"]
    with pytest.raises(ImageError, match="has 4,194,305 bytes, more than registries accept"):
        Manifest.read(raw.ljust(4 * 2**20 + 1))


def test_a_tag_may_have_128_characters_and_a_name_255():
    tag, name = "t" * 128, "n" * (255 - len("example.com/"))
    assert str(Reference.parse(f"example.com/{name}:{tag}")) == f"example.com/{name}:{tag}"
    for longer in (f"example.com/{name}n", f"a:{tag}t"):
        with pytest.raises(UsageError, match="at most"):
            Reference.parse(longer)


@pytest.mark.parametrize("more", ["A", "g", "0", "\n"], ids=["upper case", "no digit", "longer", "a line"])
def test_a_digest_is_64_digits_in_lower_case(more):
    digits = "0123456789abcdef" * 4
    assert is_digest(f"sha256:{digits}")
    assert not is_digest(f"sha256:{digits[:-1]}{more}" if more in "Ag" else f"sha256:{digits}{more}")


@pytest.mark.parametrize("field", ["layers", "config"])
def test_an_image_that_claims_to_be_an_index_too_is_neither(field):
    record = {key: value for key, value in RECORD.items() if key not in ("layers", "config", "mediaType")}
    with pytest.raises(ImageError, match="claims to be both an image and an index"):
        Manifest.read(json.dumps(record | {"manifests": [], field: RECORD[field]}).encode())
