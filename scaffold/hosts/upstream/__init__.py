"""The built-in origin behind a host: what it answers, and what arrived there."""
