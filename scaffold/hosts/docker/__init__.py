"""Envoy in a container of an image that the user names."""
