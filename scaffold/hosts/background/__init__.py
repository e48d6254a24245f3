"""Deployments on this machine: a host that runs on after the command has ended."""
