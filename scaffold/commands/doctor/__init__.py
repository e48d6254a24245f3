"""Check this machine: one module per group of checks."""
