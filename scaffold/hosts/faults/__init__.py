"""What goes wrong around a plugin, or in it, and what a client sees of that."""
