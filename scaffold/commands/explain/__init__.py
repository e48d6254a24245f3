"""`explain`: one request's timeline, and the traps in it."""
