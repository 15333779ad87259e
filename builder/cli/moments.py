"""Ends, as people write them: a day, or a number of days from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_DAYS = re.compile("([0-9]{1,4})d?")


def end_of(text: str) -> datetime:
    """`90` and `90d` are days from now; a day ends at its end, in UTC. Raises BadParameter."""
    days = _DAYS.fullmatch(text)
    if days is not None:
        return (datetime.now(UTC) + timedelta(days=int(days[1]))).replace(microsecond=0)
    try:
        moment = datetime.fromisoformat(text)
        if len(text) <= len("2027-01-31"):
            moment = moment + timedelta(days=1)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no day such as 2027-01-31", param_hint="--expires") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
