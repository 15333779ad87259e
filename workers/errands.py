"""Errands beside the builds: each kind has its task in the queue of the worker that can do it."""

from __future__ import annotations

from builder.errors import GoldsmithError
from builder.pipeline.errands import run_errand
from builder.pipeline.excepting import refuse_document, sign_document
from builder.store.errands import ErrandKind, Taken
from workers.running import services

_SIGN_LEASE = 300.0


def sign(errand_id: int) -> None:
    adapters = services()

    def give_up(taken: Taken, error: GoldsmithError) -> None:
        refuse_document(adapters, taken.subject, error)

    run_errand(
        adapters.database,
        ErrandKind.SIGN,
        errand_id,
        lambda taken: sign_document(adapters, taken.subject),
        lease_seconds=_SIGN_LEASE,
        give_up=give_up,
    )
