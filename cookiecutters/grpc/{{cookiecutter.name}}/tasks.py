"""`invoke --list` shows what can be done here; add tasks of your own below."""

from scaffold.tasks import ns

__all__ = ["ns"]
