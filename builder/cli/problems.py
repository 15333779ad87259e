"""How a failure is told: what, why, and the way out."""

from __future__ import annotations

from collections.abc import Sequence

from builder.cli.output import complain, print_json
from builder.errors import GoldsmithError, Problem


def tell_error(error: GoldsmithError, *, machine: bool = False) -> None:
    """One line on standard error, or one more for each of several faults; for machines the problem as JSON too."""
    if machine:
        print_json({"problem": error.problem().model_dump(mode="json")})
    if len(error.errors) > 1:
        # What stands before the first fault says what they are faults of.
        subject = error.detail.partition(str(error.errors[0]))[0].strip(": ")
        complain(f"goldsmith: {error.problem().title}" + (f": {subject}" if subject else ""))
        for fault in error.errors:
            complain(f"  {fault}")
        if error.hint:
            complain(f"  way out: {error.hint}")
    else:
        complain(f"goldsmith: {error}")


def problem_lines(problem: Problem, differences: Sequence[str] = ()) -> list[str]:
    """A problem in full, for whoever asked for the build that it ended. `differences` say more than its faults."""
    lines = [problem.title, *(f"  {line}" for line in problem.detail.splitlines())]
    # A single fault is often the detail itself.
    faults = [f"  - {fault}" for fault in problem.errors if str(fault) != problem.detail]
    lines += [f"  {line}" for line in differences] or faults
    if problem.hint:
        lines.append(f"  way out: {problem.hint}")
    return lines
