"""The API with points to be killed at."""

from __future__ import annotations

from builder.api import builds, idempotency
from builder.api.app import create_app
from builder.store import idempotency as kept
from tests.end_to_end.faults import points

__all__ = ["create_app"]

idempotency._LEASE_SECONDS = 2.0  # a test has not the time that a request may take
points.around(builds, "submit", "submit")
points.around(kept, "remember", "remember")
points.around(idempotency, "_response", "answer")
