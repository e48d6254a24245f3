"""Run a plugin in somebody's cluster: documents, kubectl, acceptance, and what was applied."""
