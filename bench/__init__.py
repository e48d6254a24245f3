"""Benchmarks: each a ratio against doing the same without scaffold, side by side in one run.

`invoke dev.bench [--only NAME]` prints the table; the machine is shared and noisy, so only the ratios
mean something, and of those the medians.
"""
