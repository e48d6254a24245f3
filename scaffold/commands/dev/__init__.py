"""`dev`: save, and it is live."""
