"""The built-in upstream behind a host: it answers like httpbin, and records what arrives."""
