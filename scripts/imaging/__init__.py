"""Goldsmith's own images: Goldsmith as a Debian package, a signed archive that has it, and the recipes that use it."""
