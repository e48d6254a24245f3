"""Versions of Istio, Envoy and Rust, as numbers that compare."""

from __future__ import annotations

Version = tuple[int, ...]
