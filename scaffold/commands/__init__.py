"""One module per command: the operation behind it."""
