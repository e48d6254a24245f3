"""The profile `gcp`: suites as Google's tester of plugins plays them, in this process."""
