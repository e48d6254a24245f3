"""A private Rust toolchain from Debian's packages, installed without root."""
