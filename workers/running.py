"""Runs one stage of the pipeline for a message of its queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Protocol

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
    return Spans(url, service) if url else None


def run(stage: Stage, make: Callable[[Services], Runnable], build_id: str) -> None:
    adapters = services()
    runnable = make(adapters)
    begun = time.time()
    state = run_stage(
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
    if found is not None and state is not None:
        tell_stage(found, adapters.database, build_id, stage.queue, begun)
