"""Which of the machine's archives is Debian's."""

from __future__ import annotations

import pytest

from scaffold.toolchain.debian.apt import mirror

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
