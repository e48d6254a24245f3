"""What a module is, and which hosts load it: no process, no network."""
