"""Speak to a registry: addresses, credentials, sessions, uploads and downloads."""
