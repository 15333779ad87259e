"""What an API key may do, and what its team may be called."""

from __future__ import annotations

from enum import StrEnum

TEAM_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


class Scope(StrEnum):
    """`admin` implies all others; none of the others implies another."""

    BUILDS_WRITE = "builds:write"
    BUILDS_READ = "builds:read"
    PROVENANCE_READ = "provenance:read"
    COMPARISONS_WRITE = "comparisons:write"
    ADMIN = "admin"
