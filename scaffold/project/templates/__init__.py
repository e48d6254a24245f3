"""Where templates come from, whether they are trusted, and how they are rendered and merged."""
