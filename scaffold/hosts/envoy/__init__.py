"""Envoy as a local process: its binary, configuration, files, log and admin interface."""
