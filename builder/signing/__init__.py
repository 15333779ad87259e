"""Signatures and attestations: in-toto statements, signed through Sigstore and verified against its trusted root."""
