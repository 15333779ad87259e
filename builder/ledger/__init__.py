"""The ledger: one canonical record for each release, only ever appended."""
