"""`invoke --list` shows the tasks; add your own below."""

from scaffold.tasks import ns

__all__ = ["ns"]
