"""What the database role that serves the API may do: all that it does, and nothing to what the ledger holds.

Goldsmith's rows change, but for those that others rely on for good: the record, its place in the tree, what was
signed. A role with these grants can read them and no more; PostgreSQL itself refuses to add, change or remove one.
"""

from __future__ import annotations

from builder.store.schema import Base

# Written by workers alone.
_READ = ("records", "ledger_leaves", "ledger_tiles", "ledger_head", "ledger_checkpoints", "ledger_keys", "releases")
_RIGHTS = dict.fromkeys(_READ, "SELECT") | {
    "audit": "SELECT, INSERT",
    # Witnesses send them through the API, and may send a later one.
    "ledger_cosignatures": "SELECT, INSERT, UPDATE",
}
_ALL = "SELECT, INSERT, UPDATE, DELETE"


def api_grants(role: str) -> str:
    """SQL for PostgreSQL, to be run by the owner of the tables after each migration. `role` is quoted."""
    quoted = '"' + role.replace('"', '""') + '"'
    lines = [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {quoted};",
        f"GRANT USAGE ON SCHEMA public TO {quoted};",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {quoted};",
        f'GRANT SELECT ON "alembic_version" TO {quoted};',
    ]
    lines += [f'GRANT {_RIGHTS.get(table, _ALL)} ON "{table}" TO {quoted};' for table in sorted(Base.metadata.tables)]
    return "\n".join(lines) + "\n"
