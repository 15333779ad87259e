"""Where a process can be killed: named points around everything that it leaves in a database, a registry, an engine.

Nothing of this is in production's code. A test starts a worker, the API or the dispatcher as the module of the same
name beside this one, which patches the points in; TEST_FAULTS names a directory, and a file in it with the name of a
point kills whoever comes by that point first, with signal 9.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

_DIRECTORY = Path(os.environ.get("TEST_FAULTS", "/nonexistent"))
SAID = "said"

_BEGIN = ("claim.uncommitted", "claimed")
_END = ("complete.before", "complete.after")


def _steps(*names: str) -> tuple[str, ...]:
    return tuple(f"step.{name}.{moment}" for name in names for moment in ("begun", "ending", "ended"))


# By process, in the order in which a build comes by them.
POINTS: dict[str, tuple[str, ...]] = {
    "api": ("submit.before", "submit.after", "remember.after", "answer.before"),
    "dispatcher": ("due.after", "send.before", "send.after", "mark.after", "errand.after", "reap.before", "reap.after"),
    "build": (
        *_BEGIN,
        "locked.after",
        *_steps("base"),
        "prepare.after",
        "blob.before",
        "blob.after",
        "container.created",
        *_steps("packages", "users", "files", "run", "harden", "canonicalise"),
        "assemble.after",
        "step.stage.begun",
        "push.before",
        "manifest.before",
        "manifest.after",
        "push.after",
        "announce.after",
        "materials.before",
        "materials.after",
        "step.stage.ending",
        "step.stage.ended",
        "step.test.begun",
        "test.container",
        "step.test.ending",
        "step.test.ended",
        *_END,
    ),
    "scan": (
        *_BEGIN,
        *_steps("database"),
        "step.scan.begun",
        "scanner.before",
        "scanner.after",
        "step.scan.ending",
        "step.scan.ended",
        "step.gate.begun",
        "keep.before",
        "keep.after",
        "step.gate.ending",
        "step.gate.ended",
        *_END,
    ),
    "release": (
        *_BEGIN,
        "step.sign.begun",
        "log.after",
        "signature.before",
        "signature.after",
        "signatures-kept.after",
        "step.sign.ending",
        "step.sign.ended",
        "step.publish.begun",
        "manifest.before",
        "manifest.after",
        "copy.after",
        "materials.after",
        "attach.before",
        "list.before",
        "list.after",
        "attach.after",
        "step.publish.ending",
        "step.publish.ended",
        "step.record.begun",
        "record.before",
        "ledger.after",
        "record.after",
        "step.record.ending",
        "step.record.ended",
        "step.tag.begun",
        "tag.before",
        "tag-put.before",
        "tag-put.after",
        "tag.after",
        "step.tag.ending",
        "step.tag.ended",
        "take-back.before",
        "unstage.after",
        "unlist.after",
        "take-back.after",
        *_END,
        "checkpoint-key.after",
        "checkpoint-keep.after",
        "checkpoint-push.before",
        "checkpoint-push.after",
        "checkpoint-note.before",
        "checkpoint-note.after",
    ),
}


def reach(point: str) -> None:
    """Die here, if a test has asked for that."""
    try:
        (_DIRECTORY / point).rename(_DIRECTORY / SAID / point)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def around(owner: Any, attribute: str, name: str) -> None:
    """Points before and after each call of a function or method."""
    function: Callable[..., Any] = getattr(owner, attribute)

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        reach(f"{name}.before")
        answer = function(*args, **options)
        reach(f"{name}.after")
        return answer

    setattr(owner, attribute, called)


def within(owner: Any, attribute: str, point: str) -> None:
    """A point right after a context is entered."""
    function: Callable[..., AbstractContextManager[Any]] = getattr(owner, attribute)

    @contextmanager
    def entered(*args: Any, **options: Any) -> Iterator[Any]:
        with function(*args, **options) as found:
            reach(point)
            yield found

    setattr(owner, attribute, entered)


def stages() -> None:
    """What every stage does: claim, steps, hand-over."""
    from builder.pipeline import stage
    from builder.pipeline.journal import Journal
    from builder.store import builds

    claim, begin, finish, made = builds.claim, Journal._begin, Journal._finish, Journal.__init__

    def claimed(*args: Any, **options: Any) -> Any:
        found = claim(*args, **options)
        if found is not None:
            reach("claim.uncommitted")
        return found

    def make(self: Journal, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        reach("claimed")

    names: dict[int, str] = {}

    def begun(self: Journal, name: str) -> int:
        found = begin(self, name)
        names[found] = name
        reach(f"step.{name}.begun")
        return found

    def finished(self: Journal, step_id: int, state: str, summary: str) -> None:
        reach(f"step.{names[step_id]}.ending")
        finish(self, step_id, state, summary)
        reach(f"step.{names[step_id]}.ended")

    builds.claim = claimed
    Journal.__init__ = make  # type: ignore[method-assign]
    Journal._begin = begun  # type: ignore[method-assign]
    Journal._finish = finished  # type: ignore[method-assign]
    around(stage, "_complete", "complete")
