"""Commands that run while somebody plays the workers, in this process or in one of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.unit.cli_server import Api, Worker


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Run `work` beside the command; what goes wrong in it interrupts the command and fails the test."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
            signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
        if failures:
            raise failures[0]


def submitted(api: Api, recipe: str, known: str | None) -> Worker:
    """The worker of the next build of a recipe, after the one that is `known`."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = newest(api, recipe)
        if found is not None and found != known:
            return api.worker(found)
        time.sleep(0.02)
    raise AssertionError("no build came in")


def newest(api: Api, recipe: str) -> str | None:
    try:
        return api.newest(recipe, within=0.01)
    except AssertionError:
        return None


def playing(api: Api, recipe: str, part: Callable[[Worker], None]) -> AbstractContextManager[None]:
    """`part` is done by the worker of the next build of a recipe, while the command runs."""
    known = newest(api, recipe)
    return meanwhile(lambda: part(submitted(api, recipe, known)))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "builder.cli", *arguments]


def environment(api: Api) -> dict[str, str]:
    return {**os.environ, **api.environment, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}


def on_a_terminal(api: Api, *arguments: str) -> str:
    """What a command writes to a pseudo-terminal."""
    near, far = os.openpty()
    child = subprocess.Popen(command(*arguments), env=environment(api), stdin=far, stdout=far, stderr=far)
    os.close(far)
    shown = b""
    while True:
        try:
            chunk = os.read(near, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    child.wait(20)
    os.close(near)
    return shown.decode("utf-8", "replace")
