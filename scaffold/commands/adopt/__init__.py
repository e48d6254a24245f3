"""Turn what exists into a project: one module for each kind of thing that a repository knows."""
