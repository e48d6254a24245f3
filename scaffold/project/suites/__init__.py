"""Declarative test suites, in the format of Google's tester of plugins: what they say, read and checked."""
