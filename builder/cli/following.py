"""Follow a build to its end, and before it the base that it waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from builder.cli.display import Display, LiveDisplay, NoDisplay, PlainDisplay
from builder.cli.estimating import estimate
from builder.cli.output import complain, console
from builder.client.api import Client
from builder.client.errors import AnswerUnexpected
from builder.client.events import Ended, Logged, StateChanged, StepChanged
from builder.client.models import Build


def follow_shown(client: Client, build: Build, *, machine: bool) -> Build:
    """Show a build until it has ended; the answer is how. Ctrl-C leaves it alone and says how to go on."""
    with _left_alone(build):
        if machine:
            return follow(client, build, NoDisplay())
        if console().is_terminal:
            with LiveDisplay() as display:
                return follow(client, build, display)
        return follow(client, build, PlainDisplay())


@contextmanager
def _left_alone(build: Build) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        complain(
            f"goldsmith: the build goes on: `goldsmith logs --follow {build.id}` follows it, "
            f"`goldsmith cancel {build.id}` ends it"
        )
        raise typer.Abort from None


class _ErrorDisplay(PlainDisplay):
    """For commands whose standard output is a document: what goes on is told beside it."""

    def note(self, text: str) -> None:
        complain(text)


def follow_quietly(client: Client, build: Build) -> Build:
    """Follow a build to its end, telling of it on standard error. Ctrl-C as above."""
    with _left_alone(build):
        return follow(client, build, _ErrorDisplay())


def follow(client: Client, build: Build, display: Display, *, given_up: Callable[[], bool] = lambda: False) -> Build:
    """The build as it ended. With `given_up`, which is asked now and then, perhaps as it was before that."""
    # Machines are told of the end alone.
    expected = None if isinstance(display, NoDisplay) else estimate(client, build)
    display.begin(build, expected)
    if build.state == "waiting" and build.waits_for:
        base = client.build(build.waits_for)
        display.note(f"{build.recipe} waits for its base: build {base.id} of {base.recipe}")

        def needless() -> bool:
            # If it failed, it failed with its base, whose end is then the thing to see.
            return given_up() or client.build(build.id).state == "cancelled"

        follow(client, base, display, given_up=needless)
        display.begin(build, expected)

    def lost(reason: str) -> None:
        display.note(f"connection lost, trying again: {reason}")

    for event in client.follow(build.id, on_lost=lost):
        if isinstance(event, Logged):
            display.log(event.line)
        elif isinstance(event, StepChanged):
            display.step(event.step)
            if given_up():
                return build
        elif isinstance(event, StateChanged):
            display.state(event.state)
        elif isinstance(event, Ended):
            return event.build
    raise AnswerUnexpected(f"the API ended the events of build {build.id} without its end")
