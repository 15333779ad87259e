"""The release queue: the only worker that has the signing identity. It runs nothing of a recipe."""

from __future__ import annotations

from celery.signals import worker_init

from builder.errors import GoldsmithError, SettingsInvalid
from builder.pipeline.checkpointing import sign_checkpoint
from builder.pipeline.errands import run_errand
from builder.pipeline.excepting import refuse_document, sign_document
from builder.pipeline.release import ReleaseStage
from builder.pipeline.services import Services
from builder.pipeline.staging import clear_spool
from builder.settings import load_settings
from builder.store.errands import LONGEST_SECONDS, ErrandKind, Taken
from builder.store.states import RELEASE
from workers.app import app
from workers.running import run, services
from workers.sweeping import sweep_host

sweep_host(clear_spool)


@worker_init.connect
def refuse_without_key(**_: object) -> None:
    """A release that nobody could sign the record of must not begin."""
    try:
        Services(load_settings()).ledger_key.verifier  # noqa: B018
    except SettingsInvalid as error:
        # Celery logs any exception of a handler and goes on; this one ends the worker.
        raise SystemExit(f"goldsmith: {error}") from error


@app.task(name="goldsmith.release")
def release(build_id: str) -> None:
    run(RELEASE, ReleaseStage, build_id)


@app.task(name="goldsmith.checkpoint", time_limit=LONGEST_SECONDS[ErrandKind.CHECKPOINT])
def checkpoint(errand_id: int) -> None:
    adapters = services()
    run_errand(
        adapters.database,
        ErrandKind.CHECKPOINT,
        errand_id,
        lambda _: sign_checkpoint(adapters),
        lease_seconds=adapters.settings.lease_seconds,
    )


@app.task(name="goldsmith.sign", time_limit=LONGEST_SECONDS[ErrandKind.SIGN])
def sign(errand_id: int) -> None:
    adapters = services()

    def give_up(taken: Taken, error: GoldsmithError) -> None:
        refuse_document(adapters, taken.subject, error)

    run_errand(
        adapters.database,
        ErrandKind.SIGN,
        errand_id,
        lambda taken: sign_document(adapters, taken.subject),
        lease_seconds=adapters.settings.lease_seconds,
        give_up=give_up,
    )
