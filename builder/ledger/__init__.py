"""The ledger: one canonical record for each release and comparison, only ever appended."""
