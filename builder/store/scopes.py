"""What an API key may do."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """`admin` implies all others; none of the others implies another."""

    BUILDS_WRITE = "builds:write"
    BUILDS_READ = "builds:read"
    PROVENANCE_READ = "provenance:read"
    COMPARISONS_WRITE = "comparisons:write"
    ADMIN = "admin"
