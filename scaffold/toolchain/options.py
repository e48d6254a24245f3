"""`BuildOptions`: how cargo is called."""

from __future__ import annotations

from dataclasses import dataclass

from scaffold.core.option_fields import option


@dataclass(frozen=True)
class BuildOptions:
    """How cargo is called. Every command that builds takes these."""

    profile: str = option("release", "Cargo profile.", metavar="NAME")
    features: tuple[str, ...] = option((), "Cargo features, separated by commas.", metavar="LIST")
    no_default_features: bool = option(False, "Build without the crate's default features.")
    no_trim: bool = option(False, "Keep the callbacks that the plugin doesn't override.")
    rustc: str | None = option(
        None, "Rust compiler to use.", metavar="PATH", standard="$RUSTC, or the first that compiles to wasm"
    )
    yes: bool = option(False, "Install a toolchain without asking if there is none.", short="-y")
