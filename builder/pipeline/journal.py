"""The steps and the log that a stage writes while it works, safe to show on any terminal."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from builder.errors import GoldsmithError, Rejected, Unavailable
from builder.pipeline.patience import persistently
from builder.store import builds
from builder.store import journal as rows
from builder.store.builds import Claim
from builder.store.database import Database

# Terminal control sequences (ECMA-48 CSI and OSC) and what else is not text: a log is shown to people.
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# Each is a row: eight million empty lines would be as many rows.
_COST_OF_A_LINE = 32


class LogTooLong(Rejected):
    slug = "log-too-long"
    title = "The build wrote too much output"


class StepScope:
    """An open step: what it says goes to the log, its `summary` to whoever looks at the build."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self.name = name
        self.summary = ""

    def log(self, text: str) -> None:
        self._journal.add(self.name, text)


class Journal:
    """Buffers lines; `flush` writes them. `limit` is in characters for the whole stage, and a line counts for 32 more.

    Whoever has lost the claim writes nothing any more: another worker's steps and lines are not mixed with ours.
    """

    def __init__(self, database: Database, claim: Claim, limit: int) -> None:
        self._database = database
        self._claim = claim
        self._left = limit
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._lines: list[rows.Line] = []

    @contextmanager
    def step(self, name: str) -> Iterator[StepScope]:
        """A named, timed step; an exception that leaves it marks it failed and is written to the log.

        Raises LeaseLost, before anything is begun.
        """
        scope = StepScope(self, name)
        step_id = persistently(lambda: self._begin(name))
        state = "done"
        try:
            yield scope
        except BaseException as error:
            state = "failed"
            scope.summary = error.detail if isinstance(error, GoldsmithError) else type(error).__name__
            self._keep(name, printable(f"failed: {scope.summary}").split("\n"))
            raise
        finally:
            persistently(lambda: self._finish(step_id, state, scope.summary))

    def _begin(self, name: str) -> int:
        with self._database.write() as session:
            builds.hold(session, self._claim)
            return rows.begin_step(session, self._claim.build_id, self._claim.attempt, name)

    def _finish(self, step_id: int, state: str, summary: str) -> None:
        """With what the step said last, in one transaction."""
        self._write(lambda session: rows.finish_step(session, step_id, state, printable(summary)))

    def add(self, step: str, text: str) -> None:
        """Raises LogTooLong when the stage has said enough."""
        lines = printable(text).split("\n")
        self._left -= sum(map(len, lines)) + len(lines) * _COST_OF_A_LINE
        if self._left < 0:
            raise LogTooLong("the build wrote more output than it may", hint="GOLDSMITH_BUILD_LOG_BYTES is the limit")
        self._keep(step, lines)

    def flush(self) -> None:
        self._write(None)

    def _write(self, more: Callable[[Session], None] | None) -> None:
        # One writer at a time, or lines could be numbered out of order.
        with self._flushing:
            with self._lock:
                lines, self._lines = self._lines, []
            if not lines and more is None:
                return
            try:
                with self._database.write() as session:
                    if lines:
                        rows.append_log(session, self._claim.build_id, lines, token=self._claim.token)
                    if more is not None:
                        more(session)
            except Unavailable:
                with self._lock:
                    self._lines[:0] = lines
                raise

    def _keep(self, step: str, lines: list[str]) -> None:
        now = time.time()
        with self._lock:
            self._lines.extend(rows.Line(now, step, line) for line in lines)


def printable(text: str) -> str:
    """Text without escape sequences, control characters and direction overrides; carriage returns end a line."""
    return _CONTROLS.sub("\ufffd", _ESCAPES.sub("", text.replace("\r\n", "\n").rstrip("\r").replace("\r", "\n")))
