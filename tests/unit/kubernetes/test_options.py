"""What may be typed of a cluster, by Kubernetes' own rules."""

import pytest

from scaffold.errors import UsageError
from scaffold.kubernetes import options as names
from scaffold.kubernetes.options import ClusterOptions, Match
from scaffold.project.vm_environment import Variable
from scaffold.wasm import proxy_features as versions

LONG = "a" * 63


@pytest.mark.parametrize(
    "label",
    ["app=web", "app=", "a.b/c=d", f"{LONG}={LONG}", f"{'a' * 249}.b/{LONG}=x", "A_b-c.9=Z_y-x.0", "0=1"],
)
def test_labels(label):
    key, _, value = label.partition("=")
    assert ClusterOptions(selector=(label,)).labels == {key: value}


@pytest.mark.parametrize(
    "label",
    [
        "app",
        "=web",
        "app=-web",
        "app=web-",
        "app=a b",
        "app=*",
        "*=web",
        "/a=b",
        "A.b/c=d",
        "a/b/c=d",
        f"{LONG}a=b",
        f"a={LONG}a",
        f"{'a' * 253}.b/c=d",
        "app=wéb",
        "app=web\n",
        "app\n=web",
        "a==b",
    ],
)
def test_labels_that_are_no_labels(label):
    with pytest.raises(UsageError) as caught:
        ClusterOptions(selector=("fine=1", label))
    assert caught.value.hint


def test_a_label_has_one_value():
    assert ClusterOptions(selector=("a=b", "a=b")).labels == {"a": "b"}
    with pytest.raises(UsageError, match="can't be both `b` and `c`"):
        ClusterOptions(selector=("a=b", "a=c"))


@pytest.mark.parametrize("name", ["web", "a.b-c.d", "0", "a" * 253])
def test_names(name):
    assert ClusterOptions(name=name, pull_secret=name, namespace="x").name == name


@pytest.mark.parametrize("name", ["", "Web", "a_b", "-a", "a-", "a..b", "a.-b", "a" * 254, "a b", "a\n", "é"])
def test_names_that_are_none(name):
    for field in ("name", "pull_secret", "namespace"):
        with pytest.raises(UsageError, match=r"isn't a valid (resource name|secret name|namespace name)"):
            ClusterOptions(**{field: name})
    with pytest.raises(UsageError):
        ClusterOptions(target_ref=(f"Gateway/{name}",))


@pytest.mark.parametrize("namespace", ["a.b", LONG + "a"])
def test_a_namespace_is_one_label(namespace):
    with pytest.raises(UsageError, match="isn't a valid namespace name"):
        ClusterOptions(namespace=namespace)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("hello_world", "hello-world"),
        ("Hello", "hello"),
        ("__", "plugin"),
        ("é", "plugin"),
        ("a" * 62 + "_b", "a" * 62),
        ("a--b", "a-b"),
    ],
)
def test_a_plugins_title_becomes_a_name(title, name):
    assert names.resource_name(title) == name
    names.check_namespace(name)


MISTAKES = [
    ({"target_ref": ("public",)}, "`public` isn't a target reference", "Gateway/public"),
    ({"target_ref": ("Gatewy/public",)}, "no kind of target named `Gatewy`", "`Gateway`"),
    ({"phase": "early"}, "no phase named `early`", "authn"),
    ({"failure_policy": "open"}, "no failure policy named `open`", "fail-open"),
    (
        {"priority": 2**31},
        "--priority can't be `2147483648`",
        "pass a number from -2147483647 to 2147483647",
    ),
    (
        {"priority": -(2**31)},
        "--priority can't be `-2147483648`",
        "pass a number from -2147483647 to 2147483647",
    ),
    ({"wait": -1}, "--wait can't be `-1`", "pass a number from 0 to 3600"),
    ({"match": ("inbound",)}, "no mode of --match named `inbound`", "server"),
    ({"match": ("server:0",)}, "`server:0` has no valid ports", "server:8080"),
    ({"match": ("server:65536",)}, "`server:65536` has no valid ports", "server:8080"),
    ({"match": ("server:",)}, "`server:` has no valid ports", "server:8080"),
    ({"match": ("server:http",)}, "`server:http` has no valid ports", "server:8080"),
    ({"env": ("=1",)}, "`` isn't a valid variable name", "NAME=VALUE"),
    ({"env": ("a b",)}, "`a b` isn't a valid variable name", "NAME=VALUE"),
    ({"env": ("A=1\n2",)}, "the value of A isn't one line", None),
    ({"env": ("A=" + "x" * 2049,)}, "the value of A isn't one line", None),
    ({"env": ("A=1", "A")}, "--env sets a variable twice", "once"),
    ({"istio": "latest"}, "--istio latest: that isn't a version", "--istio 1.30"),
    ({"istio": "1"}, "--istio 1: that isn't a version", "--istio 1.30"),
    ({"istio": "2.0"}, "there is no Istio 2.0", "--istio 1.30"),
    ({"envoy": "./envoy"}, "--envoy ./envoy: that isn't a version", "--envoy 1.30"),
    ({"url": "oci://a/b"}, "`oci://a/b` isn't a valid HTTP URL", "https://"),
    ({"url": "https://"}, "`https://` isn't a valid HTTP URL", "https://"),
    ({"url": "https://a:0/b"}, "`https://a:0/b` isn't a valid HTTP URL", "https://"),
    ({"url": "https://a:b/c"}, "`https://a:b/c` isn't a valid HTTP URL", "https://"),
    ({"url": "https://a/b c"}, "`https://a/b c` isn't a valid HTTP URL", "https://"),
    ({"url": "https://me:secret@a/b"}, "--url contains credentials", None),
    ({"file": "plugin.wasm"}, "--file plugin.wasm isn't an absolute path in the proxy's container", "`/`"),
    ({"url": "https://a/b", "file": "/c"}, "--url and --file can't be combined", "one of them"),
    ({"url": "https://a/b", "pull_secret": "c"}, "--pull-secret is for an image", "leave one out"),
    ({"upstream": "web:80"}, "`web:80` isn't a valid upstream URL", "http://host:port"),
    (
        {"selector": ("a=b",), "target_ref": ("Gateway/a",)},
        "--selector and --target-ref can't be combined",
        "one of them",
    ),
    (
        {"selector": ("a=b",), "whole_namespace": True},
        "--selector and --whole-namespace can't be combined",
        "one of them",
    ),
]


@pytest.mark.parametrize(("options", "message", "hint"), MISTAKES)
def test_mistakes(options, message, hint):
    with pytest.raises(UsageError) as caught:
        ClusterOptions(**options)
    assert caught.value.message.startswith(message)
    assert "secret@" not in caught.value.message, "credentials aren't repeated"
    assert hint is None or hint in caught.value.hint


def test_matches_and_variables_are_read():
    options = ClusterOptions(match=("server:80,81,80", "both", "both"), env=("A=b=c", "B=", "C"))
    assert options.matches == (Match("server", (80, 81)), Match("both"))
    assert options.variables == (Variable("A", "b=c"), Variable("B", ""), Variable("C"))


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.27", (1, 27)), ("1.27.3", (1, 27, 3)), ("v1.31.0-rc.0", (1, 31, 0))],
)
def test_versions(text, version):
    assert ClusterOptions(istio=text).istio_version == version
    assert versions.has(versions.FAIL_RELOAD, version)


def test_an_istio_brings_its_envoy():
    """As Istio's own release notes pair them."""
    pairs = {"1.9": (1, 17), "1.20": (1, 28), "1.25": (1, 33), "1.27.1": (1, 35)}
    for istio, envoy in pairs.items():
        assert ClusterOptions(istio=istio).envoy_version == envoy
    assert ClusterOptions(istio="1.9", envoy="1.40.1").envoy_version == (1, 40, 1)
