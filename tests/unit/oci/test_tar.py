"""Layers that anybody may have made: read as every consumer reads them, or refused in a sentence."""

import gzip
import io
import itertools
import tarfile
import zlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import layers
from support.layers import END, file, header, layer, pax

from scaffold.oci import tar as tar_module
from scaffold.oci.spec import ImageError
from scaffold.oci.tar import Archive, Entry


def read(blob):
    """Names and contents, in order."""
    archive = Archive(io.BytesIO(blob))
    return [(entry.name, archive.read()) for entry in archive.entries()]


def entries(blob):
    return list(Archive(io.BytesIO(blob)).entries())


def refused(blob):
    """The sentence that says why."""
    with pytest.raises(ImageError) as caught:
        read(blob)
    assert "\n" not in caught.value.message
    return caught.value.message


# what is read

FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=150
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENTS = st.binary(max_size=2000) | st.integers(0, 3000).map(bytes)


@given(st.lists(st.tuples(PATHS, CONTENTS), max_size=5), FORMATS)
def test_what_tarfile_writes_comes_back(files, format_):
    try:
        made = layers.tar(files, format_=format_)
    except ValueError:  # a name that ustar can't hold
        assume(False)
    assert read(gzip.compress(made)) == files


@given(st.binary(min_size=1, max_size=5000), st.lists(st.integers(0, 7000)))
def test_gzip_members_in_a_row_are_one_stream(content, cuts):
    whole = file("plugin.wasm", content) + END
    edges = [0, *sorted(cut % len(whole) for cut in cuts), len(whole)]
    blob = b"".join(gzip.compress(whole[begin:end]) for begin, end in itertools.pairwise(edges))
    assert read(blob) == [("plugin.wasm", content)]


@pytest.mark.parametrize("size", range(2**18 - 3, 2**18 + 3))
def test_gzip_members_may_meet_anywhere(size):
    """A long file name in the first one's header puts its end around that of a read."""
    first, second = gzip.compress(file("a", b"1")), gzip.compress(END)
    named = first[:3] + b"\x08" + first[4:10] + b"n" * (size - len(first) - 1) + b"\0" + first[10:]
    assert len(named) == size
    assert read(named + second) == [("a", b"1")]


def test_a_file_that_isnt_asked_for_is_passed_over():
    archive = Archive(io.BytesIO(layer(file("a", b"1" * 600_000), file("b", b"2"))))
    found = {entry.name: archive.read() if entry.name == "b" else None for entry in archive.entries()}
    assert found == {"a": None, "b": b"2"}


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        (b"0", "file"),
        (b"\0", "file"),
        (b"1", "hard link"),
        (b"2", "symbolic link"),
        (b"3", "character device"),
        (b"4", "block device"),
        (b"5", "directory"),
        (b"6", "fifo"),
    ],
)
def test_what_an_entry_is(flag, kind):
    assert entries(layer(header("name", flag=flag))) == [Entry("name", 0, kind)]


def test_a_directory_of_old_is_a_file_with_a_slash():
    assert entries(layer(header("folder/", flag=b"\0", magic=b""))) == [Entry("folder/", 0, "directory")]


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(10_240), bytes(600_000)])
def test_an_archive_ends_with_any_number_of_zeros(end):
    assert read(layer(file("a", b"1"), end=end)) == [("a", b"1")]


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ([file("b", b"1", prefix=b"a")], "a/b"),
        ([file("b", b"1", magic=b"ustar  ")], "b"),
        ([file("b", b"1", magic=b"")], "b"),
        ([file(b"\xff", b"1")], "\\xff"),
        ([file("././@LongLink", b"a" * 200 + b"\0", flag=b"L"), file("a", b"1")], "a" * 200),
        ([file("././@LongLink", b"aim\0", flag=b"K"), file("b", b"1")], "b"),
        ([pax({"path": "ä" * 200}), file("b", b"1")], "ä" * 200),
        ([pax({"mtime": "1.5", "SCHILY.xattr.user.x": "\n=\0"}), file("b", b"1")], "b"),
        ([pax({"size": "1"}), header("b", 0), layers.padded(b"1")], "b"),
        ([pax({"comment": "1234"}, b"g"), file("b", b"1")], "b"),
        ([header("b", b"\x80" + b"\1".rjust(11, b"\0")), layers.padded(b"1")], "b"),
        ([header("b", b"          1 "), layers.padded(b"1")], "b"),
    ],
    ids="prefix gnu v7 bytes gnu-name gnu-link pax-name pax pax-size pax-global binary spaces".split(),
)
def test_every_way_to_write_a_header_is_read(parts, name):
    assert read(layer(*parts)) == [(name, b"1")]


# what is refused

FILE = file("plugin.wasm", b"1")


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([header("../plugin.wasm")], '"../plugin.wasm", a name that leads out of the image'),
        ([header("a/../../b")], '"a/../../b", a name that leads out of the image'),
        ([header("/plugin.wasm")], '"/plugin.wasm", a name that leads out of the image'),
        ([header("b", prefix=b"/a")], '"/a/b", a name that leads out of the image'),
        ([pax({"path": "../b"}), FILE], '"../b", a name that leads out of the image'),
        ([file("L", b"/b\0", flag=b"L"), FILE], '"/b", a name that leads out of the image'),
        ([header("\x1b[31m/../x")], r'"\u001b[31m/../x", a name that leads out'),
        ([header("a", flag=b"S")], "\"a\", an entry of the unknown kind b'S'"),
        ([header("a", flag=b"7")], "of the unknown kind b'7'"),
        ([header("a", flag=b"M")], "of the unknown kind b'M'"),
        ([pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}), FILE], "a sparse file"),
        ([pax({"GNU.sparse.map": "0,1"}), FILE], "a sparse file"),
        ([pax({"GNU.sparse.realsize": "9"}, b"g"), FILE], "a sparse file"),
        ([header("a", 1, b"2"), bytes(512)], '"a" is a symbolic link but has a size'),
        ([header("a", 1, b"5"), bytes(512)], '"a" is a directory but has a size'),
        ([file("a/", b"1")], '"a/" is a directory but has a size'),
        ([header("b", prefix=b"a", magic=b"ustar  ")], "a header of an unknown kind"),
        ([header("")], "a file without a name"),
        ([pax({"path": ""}), FILE], "a file without a name"),
        ([pax({"path": "plugin.wasm\0.txt"}), FILE], "a file without a name"),
        ([pax({"path": "a"}, b"g"), FILE], "a header sets one name or size for all files"),
        ([pax({"size": "1"}, b"g"), FILE], "a header sets one name or size for all files"),
        ([pax({"path": "a"}), pax({"path": "b"}), FILE], "two extended headers of one kind"),
        ([pax({"path": "a"}), file("L", b"b\0", flag=b"L"), FILE], "two headers name one file"),
        ([pax({"path": "a"})], "an extended header without a file"),
        ([pax({"size": "-1"}), FILE], "a pax header's size isn't a number"),
        ([pax({"size": "1" * 21}), FILE], "a pax header's size isn't a number"),
        ([pax({"size": "1_0"}), FILE], "a pax header's size isn't a number"),
        ([file("pax", b"4 =\n", flag=b"x"), FILE], "a pax header is damaged"),
        ([file("pax", b"0 a=b\n", flag=b"x"), FILE], "a pax header is damaged"),
        ([file("pax", b"-1 a=b\n", flag=b"x"), FILE], "a pax header is damaged"),
        ([file("pax", b"7 a=b\n", flag=b"x"), FILE], "a pax header is damaged"),
        ([file("pax", b"99999999999 a=b\n", flag=b"x"), FILE], "a pax header is damaged"),
        ([file("pax", b"6 abc\n", flag=b"x"), FILE], "a pax header is damaged"),
        ([file("pax", bytes(100), flag=b"x"), FILE], "a pax header is damaged"),
        ([header("pax", 2**30, b"x")], "an extended header of 1,073,741,824 bytes"),
        ([header("name", 2**30, b"L")], "an extended header of 1,073,741,824 bytes"),
        ([header("a", 2**28 + 1)], '"a" with 268,435,457 bytes: 256 MiB is the limit'),
        ([header("a", b"\x80" + b"\xff" * 11)], "256 MiB is the limit"),
        ([pax({"size": "9" * 20}), FILE], "256 MiB is the limit"),
        ([header("a", b"\xff" * 12)], "a header has no number where one belongs"),
        ([header("a", b"9")], "a header has no number where one belongs"),
        ([header("a", b"-1")], "a header has no number where one belongs"),
        ([layers.sealed(FILE[:100] + b"0000x44\0" + FILE[108:512])], "a header has no number"),
        ([header("a", b"\x001")], "a header has no number where one belongs"),
        ([header("a", b"1\x001")], "a header has no number where one belongs"),
        ([FILE.replace(b"plugin", b"Plugin")], "a header's checksum is wrong"),
        ([b"x" * 512], "a header has no number"),
        ([FILE, b"\0" * 512, FILE], "there is more after its end"),
        ([FILE, b"\0" * 1024, FILE], "there is more after its end"),
        ([FILE, b"garbage"], "a header's checksum is wrong"),
    ],
)
def test_what_could_be_read_two_ways_or_is_no_file_is_refused(parts, says):
    assert says in refused(layer(*parts))


def test_a_tar_that_is_cut_short_is_refused_wherever_that_is():
    whole = file("plugin.wasm", b"1" * 700)
    for size in range(1, len(whole)):
        assert "it is cut short" in refused(layer(whole[:size], end=b""))


def test_a_gzip_that_is_cut_short_is_refused_wherever_that_is():
    whole = layer(FILE)
    for size in range(2, len(whole)):
        assert "its gzip is cut short" in refused(whole[:size])


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"", "its last layer is empty"),
        (b"\0asm\1\0\0\0", "its last layer is not gzip"),
        (b"\x1f", "its last layer is not gzip"),
        (FILE + END, "its last layer is a plain tar"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "its last layer is compressed with zstd"),
        (zlib.compress(FILE), "its last layer is not gzip"),
        (layer(FILE) + b"garbage", "there is more after its end"),
        (layer(FILE) + b"\x1f", "there is more after its end"),
        (layer(FILE) + b"\0", "there is more after its end"),
        (layer(FILE) + bytes(1_000_000), "there is more after its end"),
        (layer(FILE) + layer(FILE), "there is more after its end"),
        (layer(FILE) + b"\x1f\x8bxxxxxxxxxxxxx", "its gzip is damaged"),
        (layer(FILE)[:-8] + bytes(8), "its gzip is damaged"),
        (layer(FILE)[:-4] + bytes(4), "its gzip is damaged"),
        (gzip.compress(b"") * 10_001, "it is more than 10,000 gzip files in a row"),
        (layer(*(header(str(at)) for at in range(1001))), "has more than 1,000 files"),
    ],
)
def test_what_is_no_layer_is_refused(blob, says):
    assert says in refused(blob)


def test_a_layer_may_have_exactly_what_its_limits_say(monkeypatch):
    """Limits that are quicker to reach: 4 KiB unpacked, of which 512 bytes are a header and 1,024 the end."""
    monkeypatch.setattr(tar_module, "BLOB_LIMIT", 4096)
    monkeypatch.setattr(tar_module, "_HEADER_LIMIT", 512)
    most = bytes(4096 - 512 - len(END))
    assert read(layer(file("a", most))) == [("a", most)]
    assert "unpacks to more than" in refused(layer(file("a", most), file("b", b"")))
    path = "n" * (512 - len("512 path=\n"))
    assert [name for name, _ in read(layer(pax({"path": path}), file("a", b"")))] == [path]
    assert "an extended header of 513 bytes" in refused(layer(pax({"path": f"{path}n"}), file("a", b"")))


@pytest.mark.parametrize(("size", "says"), [(2**28, "it is cut short"), (2**28 + 1, "256 MiB is the limit")])
def test_a_file_may_have_256_mib(size, says):
    assert says in refused(layer(header("a", size)))


def test_a_thousand_files_are_read():
    assert len(entries(layer(*(header(str(at)) for at in range(1000))))) == 1000


SOURCE = b"".join(
    [
        pax({"path": "ä", "mtime": "1"}),
        file("b", b"12"),
        file("L", b"long\0", flag=b"L"),
        file("plugin.wasm", b"\0asm\1\0\0\0"),
        header("link", flag=b"2"),
        END,
    ]
)


def by_tarfile(tar):
    """Names and contents as tarfile has them, links and the like without content; None when it refuses."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:", errors="backslashreplace") as archive:
            return [
                (entry.name, archive.extractfile(entry).read() if entry.isreg() else b"") for entry in archive
            ]
    except (tarfile.TarError, ValueError):
        return None


# behind the pax records, where some versions of tarfile look for more of them
PADDING = range(SOURCE.index(b"\0", 512), 1024)


@given(st.data())
def test_a_changed_tar_is_refused_or_read_as_tarfile_reads_it(data):
    """The checksums are right again, so that the change is not refused for them."""
    tar = bytearray(SOURCE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(tar) - 1).filter(lambda at: at not in PADDING))
        tar[at] = data.draw(st.sampled_from(b"\0 01579LKxgS\x80\xff./=") | st.integers(0, 255))
    for at in range(0, len(SOURCE), 512):
        if SOURCE[at + 257 : at + 262] == b"ustar":
            tar[at : at + 512] = layers.sealed(bytes(tar[at : at + 512]))
    try:
        found = read(gzip.compress(tar, 1))
    except ImageError as error:
        assert "\n" not in error.message
        return
    assert [(name.rstrip("/"), content) for name, content in found] == by_tarfile(bytes(tar))


@given(st.data())
def test_a_changed_gzip_is_refused_or_read_as_it_was(data):
    blob = bytearray(gzip.compress(SOURCE, 9, mtime=0))
    at = data.draw(st.integers(0, len(blob)))
    blob[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        found = read(bytes(blob))
    except ImageError as error:
        assert "\n" not in error.message
        return
    assert found == read(layer(SOURCE))


@given(st.binary() | st.binary().map(lambda content: gzip.compress(content)))
def test_whatever_comes_is_read_or_refused(blob):
    try:
        found = read(blob)
    except ImageError as error:
        assert "\n" not in error.message
    else:
        assert all(name and isinstance(content, bytes) for name, content in found)
