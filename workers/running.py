"""Runs one stage of the pipeline for a message of its queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Protocol

from celery.signals import worker_process_shutdown

from builder.pipeline.services import Services
from builder.pipeline.stage import Task, run_stage
from builder.pipeline.traced import tell_stage
from builder.settings import load_settings
from builder.spans import Spans
from builder.store.states import Stage


class Runnable(Protocol):
    """A stage of the pipeline."""

    def work(self, task: Task) -> dict[str, object]: ...

    def clean_up(self, build_id: str) -> None: ...


@cache
def services() -> Services:
    """One set of adapters a worker process, made at its first message: after the fork, so nothing is shared by it."""
    return Services(load_settings())


@cache
def spans(service: str) -> Spans | None:
    url = services().settings.traces_url
    if not url:
        return None
    made = Spans(url, service)

    # A process ends after so many tasks, or with its worker: what it has told is sent before.
    @worker_process_shutdown.connect(weak=False)
    def send_the_rest(**_: object) -> None:
        made.close()

    return made


def run(stage: Stage, make: Callable[[Services], Runnable], build_id: str) -> None:
    adapters = services()
    runnable = make(adapters)
    begun = time.time()
    outcome = run_stage(
        adapters.database,
        stage,
        build_id,
        runnable.work,
        runnable.clean_up,
        lease_seconds=adapters.settings.lease_seconds,
        log_limit=adapters.settings.build_log_bytes,
        maximum_attempts=adapters.settings.maximum_attempts,
    )
    found = spans(f"goldsmith-{stage.queue}")
    if found is not None and outcome is not None:
        tell_stage(found, adapters.database, build_id, stage.queue, begun, outcome)
