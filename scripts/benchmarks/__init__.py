"""Benchmarks: ours and a peer's way to the same end, measured in one run."""
