"""A plugin's crate: what its Cargo.toml says, how it is made and kept current."""
