"""Which of the machine's archives is Debian's."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaffold.toolchain.debian.apt import Apt, mirror

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def apt(folder, **files: str):
    """A folder like /etc/apt; a name's underscore stands for its dot."""
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        where = folder if name == "sources_list" else folder / "sources.list.d"
        (where / name.replace("_", ".")).write_text(text)
    return folder


def deb822(**fields: str) -> str:
    entry = {"Types": "deb", "URIs": "http://mirror.invalid/debian/", "Suites": "bookworm bookworm-updates"}
    entry |= {"Components": "main", "Signed-By": KEYRING}
    return "".join(f"{key}: {value}\n" for key, value in (entry | fields).items() if value)


def test_deb822(tmp_path):
    security = deb822(URIs="http://mirror.invalid/security", Suites="bookworm-security")
    text = f"# a comment\n{security}\n{deb822()}"
    assert mirror(apt(tmp_path, debian_sources=text)) == "http://mirror.invalid/debian"


def test_deb822_over_several_lines(tmp_path):
    text = deb822(URIs="", Suites="\n  trixie\n  trixie-updates") + "URIs:\n http://mirror.invalid/x\n"
    assert mirror(apt(tmp_path, debian_sources=text)) == "http://mirror.invalid/x"


def test_the_one_line_style(tmp_path):
    text = (
        "# deb http://no.invalid/debian bookworm main\ndeb http://mirror.invalid/debian bookworm main x # y\n"
    )
    assert mirror(apt(tmp_path, sources_list=text)) == "http://mirror.invalid/debian"
    signed = f"deb [ arch=amd64 signed-by={KEYRING} ] https://signed.invalid/any trixie main\n"
    (tmp_path / "sources.list.d/more.list").write_text(signed)
    assert mirror(tmp_path) == "https://signed.invalid/any"


@pytest.mark.parametrize(
    "text",
    [
        deb822(**{"Signed-By": "/usr/share/keyrings/other.gpg"}),
        deb822(**{"Signed-By": "", "URIs": "http://other.invalid/repo"}),
        deb822(Components="stable"),
        deb822(Suites="noble"),
        deb822(Suites="bookworm-security"),
        deb822(Types="deb-src"),
        deb822(Enabled="no"),
        deb822(URIs="cdrom:[Debian]/"),
        "not a source file at all",
        "",
    ],
)
def test_what_is_not_debians_is_left_alone(tmp_path, text):
    assert mirror(apt(tmp_path, other_sources=text)) is None


def test_files_that_apt_ignores_are_ignored(tmp_path):
    folder = apt(tmp_path, debian_sources_disabled=deb822())
    assert mirror(folder) is None
    assert mirror(tmp_path / "nowhere") is None


# --- what apt is told


def test_only_the_given_keyring_signs_and_only_for_this_suite(tmp_path):
    where = {"mirror": "http://mirror.invalid/debian", "suite": "trixie", "arch": "amd64"}
    Apt.prepare(tmp_path, **where, keyring=Path("/keys.gpg"))
    (line,) = (tmp_path / "sources.list").read_text().splitlines()
    assert line == "deb [arch=amd64 signed-by=/keys.gpg] http://mirror.invalid/debian trixie main"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("APT::Get::AllowUnauthenticated", "false"),
        ("Acquire::AllowInsecureRepositories", "false"),
        ("APT::Update::Error-Mode", "any"),
        ("Dir::Etc::sourceparts", "/dev/null"),
        ("Dir::Etc::preferences", "/dev/null"),
        ("Dir::Etc::preferencesparts", "/dev/null"),
    ],
)
def test_what_the_machines_own_apt_may_be_set_to_does_not_count(tmp_path, setting, value):
    where = {"mirror": "http://mirror.invalid/debian", "suite": "trixie", "arch": "amd64"}
    Apt.prepare(tmp_path, **where, keyring=Path("/keys.gpg"))
    assert f'{setting} "{value}";' in (tmp_path / "apt.conf").read_text().splitlines()


@pytest.mark.parametrize(
    "hook", ["APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "DPkg::Pre-Invoke", "DPkg::Post-Invoke"]
)
def test_the_machines_hooks_do_not_run(tmp_path, hook):
    where = {"mirror": "http://mirror.invalid/debian", "suite": "trixie", "arch": "amd64"}
    Apt.prepare(tmp_path, **where, keyring=Path("/keys.gpg"))
    assert f"#clear {hook};" in (tmp_path / "apt.conf").read_text().splitlines()
