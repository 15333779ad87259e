"""A build while it goes on: a live list on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from builder.cli.estimating import Estimate
from builder.cli.output import say, seconds_text, styled, visible
from builder.client.models import Build, LogLine, Step

_TAIL = 8
# Of these as many are shown while a step runs, where there is room.
_SHOWN, _ROOMY = 3, 20
_WAITING = {
    "waiting": "waits for its base",
    "queued": "waits for a worker",
    "built": "waits for the scanner",
    "scanned": "waits for the release worker",
}


class Display(Protocol):
    """What a follower shows to. Steps and states may be told twice."""

    def begin(self, build: Build, expected: Estimate | None) -> None: ...
    def note(self, text: str) -> None: ...
    def state(self, state: str) -> None: ...
    def step(self, step: Step) -> None: ...
    def log(self, line: LogLine) -> None: ...


class _Seen:
    """Which steps have been told in which state, and the last lines of each."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, datetime], str] = {}
        self.tails: dict[str, deque[str]] = {}

    def is_new(self, step: Step) -> bool:
        key = (step.name, step.started_at)
        if self._steps.get(key) == step.state:
            return False
        self._steps[key] = step.state
        return True

    def log(self, line: LogLine) -> None:
        self.tails.setdefault(line.step, deque(maxlen=_TAIL)).append(line.text)

    def tail(self, step: Step) -> list[str]:
        return list(self.tails.pop(step.name, ()))


class PlainDisplay:
    """One line when a step starts and one when it ends: for files, pipes and CI."""

    def __init__(self) -> None:
        self._seen = _Seen()
        self._recipe = ""
        self._state = ""

    def begin(self, build: Build, expected: Estimate | None) -> None:
        self._seen, self._recipe, self._state = _Seen(), build.recipe, ""
        usual = f", usually done in {_about(expected.whole)}" if expected else ""
        self.note(f"{build.recipe}: build {build.id}{usual}")

    def note(self, text: str) -> None:
        say(text)
        # Whoever reads along through a pipe wants to see it now.
        sys.stdout.flush()

    def state(self, state: str) -> None:
        if state != self._state and state in _WAITING:
            self.note(f"{self._recipe}: {_WAITING[state]}")
        self._state = state

    def step(self, step: Step) -> None:
        if not self._seen.is_new(step):
            return
        if step.state == "running":
            self.note(f"{self._recipe}/{step.name}: started")
            return
        self.note(f"{self._recipe}/{step.name}: {_ending(step)}")
        if step.state == "failed":
            for text in self._seen.tail(step):
                self.note(f"{self._recipe}/{step.name}| {text}")

    def log(self, line: LogLine) -> None:
        self._seen.log(line)


class LiveDisplay:
    """What has ended scrolls by; what runs has a spinner, its seconds and its last lines of log; below it is how long
    all has taken and will take. A context manager."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._fancy = self._console.encoding.startswith("utf")
        self._spinner = Spinner("dots" if self._fancy else "line", style="cyan")
        self._seen = _Seen()
        self._running: dict[str, Step] = {}
        self._waiting: str | None = None
        self._since = datetime.now(UTC)
        self._build: Build | None = None
        self._expected: Estimate | None = None
        self._end: datetime | None = None
        # Last, for it renders at once.
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, build: Build, expected: Estimate | None) -> None:
        self._seen, self._running = _Seen(), {}
        self._build, self._expected, self._end = build, expected, None
        self._print(Text.assemble(styled(build.recipe, "bold"), f"  build {visible(build.id)}"))

    def note(self, text: str) -> None:
        self._print(styled(text, "dim"))

    def state(self, state: str) -> None:
        waiting = _WAITING.get(state)
        if waiting != self._waiting:
            self._waiting, self._since = waiting, datetime.now(UTC)

    def step(self, step: Step) -> None:
        if not self._seen.is_new(step):
            return
        if step.state == "running":
            self._running = {**self._running, step.name: step}
            if self._expected and step.name in self._expected.to_go:
                self._end = step.started_at + timedelta(seconds=self._expected.to_go[step.name])
            return
        self._running = {name: one for name, one in self._running.items() if name != step.name}
        good = step.state == "done"
        mark = ("✓" if good else "✗") if self._fancy else ("ok" if good else "!!")
        self._print(
            Text.assemble(
                (f"  {mark} ", "green" if good else "red"), f"{visible(step.name):<13}", visible(_ending(step))
            )
        )
        if step.state == "failed":
            for text in self._seen.tail(step):
                self._print(styled(f"      {text}", "dim"))

    def log(self, line: LogLine) -> None:
        self._seen.log(line)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)

    def _render(self) -> RenderableType:
        now = datetime.now(UTC)
        rows = [row for step in self._running.values() for row in self._rows(step, now)]
        if not rows and self._waiting:
            rows.append(self._row(f"{self._waiting}  {seconds_text((now - self._since).total_seconds())}"))
        if self._build is not None:
            rows.append(Text(f"  {visible(self._build.recipe)}: {self._progress(self._build, now)}", style="bold"))
        return Group(*rows)

    def _progress(self, build: Build, now: datetime) -> str:
        elapsed = seconds_text(max(0.0, (now - build.created_at).total_seconds()))
        if self._expected is None:
            return elapsed
        if self._end is None:
            return f"{elapsed}, about {_about(self._expected.whole)} once it starts"
        left = (self._end - now).total_seconds()
        if left < 1:
            return f"{elapsed}, longer than usual ({_about(self._expected.whole)})"
        return f"{elapsed}, about {_about(left)} to go"

    def _rows(self, step: Step, now: datetime) -> list[RenderableType]:
        # The server's clock may be ahead of ours.
        elapsed = max(0.0, (now - step.started_at).total_seconds())
        rows = [self._row(f"{visible(step.name):<13}{seconds_text(elapsed)}")]
        tail = self._seen.tails.get(step.name, ())
        for text in list(tail)[-(_SHOWN if self._console.height >= _ROOMY else 1) :]:
            line = styled(f"      {text}", "dim")
            line.no_wrap, line.overflow = True, "ellipsis" if self._fancy else "crop"
            rows.append(line)
        return rows

    def _row(self, text: str) -> RenderableType:
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(" ", self._spinner, Text(text))
        return grid


class NoDisplay:
    """For machines, which want the outcome only."""

    def begin(self, build: Build, expected: Estimate | None) -> None: ...
    def note(self, text: str) -> None: ...
    def state(self, state: str) -> None: ...
    def step(self, step: Step) -> None: ...
    def log(self, line: LogLine) -> None: ...


def _ending(step: Step) -> str:
    took = f" in {seconds_text(step.seconds)}" if step.seconds is not None else ""
    state = "lost with its worker" if step.state == "lost" else step.state
    return f"{state}{took}" + (f"  {step.summary}" if step.summary else "")


def _about(seconds: float) -> str:
    """An estimate has no parts of seconds."""
    return f"{seconds:.0f} s" if seconds < 60 else seconds_text(seconds)
