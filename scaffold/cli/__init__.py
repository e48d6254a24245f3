"""The command line: click declarations and the console, the only package that prints."""
