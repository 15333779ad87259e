"""The pulse of a worker: of the process that takes messages, from the very loop that does, and of each that works.

These tell by a thread beside the task that they are not stopped. A task that hangs is ended by its time limit.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from celery.signals import worker_process_init, worker_process_shutdown

from builder.pulse import BEAT_SECONDS, beat, clear, forget


def give_pulse(app: Celery, directory: Path) -> None:
    """Have the workers of this application prove in `directory` that they live."""

    class Pulse(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        requires = ("celery.worker.consumer.connection:Connection",)
        _beating: Any = None

        def start(self, consumer: Any) -> None:
            # With each connection anew: one that is lost clears the timer. It goes by the loop that reads from the
            # broker, and stands still with it.
            self._beating = consumer.timer.call_repeatedly(BEAT_SECONDS, _tell, (directory,))

        def stop(self, _: Any) -> None:
            if self._beating is not None:
                self._beating.cancel()

    app.steps["consumer"].add(Pulse)

    # After the fork: a thread would not come with it.
    @worker_process_init.connect(weak=False)
    def begin(**_: object) -> None:
        threading.Thread(target=_beat_for_ever, args=(directory,), name="pulse", daemon=True).start()

    @worker_process_shutdown.connect(weak=False)
    def end(**_: object) -> None:
        forget(directory)


def _tell(directory: Path) -> None:
    beat(directory)
    clear(directory)


def _beat_for_ever(directory: Path) -> None:
    while True:
        beat(directory)
        time.sleep(BEAT_SECONDS)
