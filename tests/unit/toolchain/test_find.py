"""The one line that gives a system the std it lacks."""

from __future__ import annotations

import pytest

from scaffold.toolchain.find import install_line

APT = "sudo apt install rustc cargo libstd-rust-dev-wasm32 lld"


@pytest.mark.parametrize(
    ("os_release", "line"),
    [
        ('ID=debian\nVERSION_ID="13"\n', APT),
        ("ID=debian\n", APT),
        ('ID=debian\nVERSION_ID="12"\n', None),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="25.10"\n', APT),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', None),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\n', None),
        ("ID=fedora\nVERSION_ID=43\n", "sudo dnf install rust cargo rust-std-static-wasm32-wasip1"),
        (
            'ID="rocky"\nID_LIKE="rhel centos fedora"\n',
            "sudo dnf install rust cargo rust-std-static-wasm32-wasip1",
        ),
        ("ID=alpine\nVERSION_ID=3.23.0\n", "sudo apk add rust cargo rust-wasm lld"),
        ("ID=arch\n", "sudo pacman -S rust rust-wasm lld"),
        ("ID=nixos\n", None),
        ("", None),
    ],
)
def test_each_system_has_its_line(os_release, line):
    assert install_line(os_release, "wasm32-wasip1") == line


def test_the_line_names_the_triple_where_packages_do():
    assert "wasm32-unknown-unknown" in install_line("ID=fedora\n", "wasm32-unknown-unknown")
