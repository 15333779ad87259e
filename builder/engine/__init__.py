"""The container engine: bases bootstrapped from packages, build containers, and tests of finished images."""
