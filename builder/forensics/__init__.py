"""Is this container, archive or image what was built? Compares it, path by path, with the golden inventory."""
