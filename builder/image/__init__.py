"""The heart: tar streams, the canonical form, inventories, layers and OCI documents. Nothing is ever extracted."""
