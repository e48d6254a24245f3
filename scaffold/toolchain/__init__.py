"""Find or install rustc and cargo, and drive them."""
