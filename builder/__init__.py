"""Goldsmith: golden container images that can be rebuilt bit for bit and proven against what runs."""

__version__ = "0.1.0"
