"""Merkle trees as RFC 6962, section 2.1, has them: hashing, roots, proofs and tiles. Pure: no storage, no network."""
