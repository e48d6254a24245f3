"""Run a plugin on this machine: its options, the hosts, and what a request looks like from each side."""
