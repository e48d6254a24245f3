"""`record`: a request becomes a test."""
