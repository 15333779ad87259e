"""Errands beside the builds: each kind has its task in the queue of the worker that can do it."""

from __future__ import annotations

from builder.errors import GoldsmithError
from builder.pipeline.checkpointing import sign_checkpoint
from builder.pipeline.errands import run_errand
from builder.pipeline.excepting import refuse_document, sign_document
from builder.pipeline.notifying import deliver, give_up
from builder.pipeline.rescan import rescan_all
from builder.store.errands import ErrandKind, Taken
from workers.running import services

_SIGN_LEASE = 300.0
_RESCAN_LEASE = 1800.0
_NOTIFY_LEASE = 120.0
_CHECKPOINT_LEASE = 120.0


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


def rescan(errand_id: int) -> None:
    adapters = services()
    run_errand(
        adapters.database,
        ErrandKind.RESCAN,
        errand_id,
        lambda _: rescan_all(adapters),
        lease_seconds=_RESCAN_LEASE,
        most_tries=3,
    )


def checkpoint(errand_id: int) -> None:
    adapters = services()
    run_errand(
        adapters.database,
        ErrandKind.CHECKPOINT,
        errand_id,
        lambda _: sign_checkpoint(adapters),
        lease_seconds=_CHECKPOINT_LEASE,
    )


def notify(errand_id: int) -> None:
    adapters = services()
    run_errand(
        adapters.database,
        ErrandKind.NOTIFY,
        errand_id,
        lambda taken: deliver(adapters, taken),
        lease_seconds=_NOTIFY_LEASE,
        give_up=lambda taken, error: give_up(adapters, taken, error),
    )
