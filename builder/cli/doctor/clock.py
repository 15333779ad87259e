"""This machine's clock, held against those of the servers that it talks to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

from builder.cli.doctor.findings import Check, Finding, fail, ok, warn

# Goldsmith is younger than any clock before this, 2026-01-01.
_EARLIEST = 1767225600.0
_SECONDS = 4.0
# Certificates and tokens begin when they are made; a minute is what those who check them let pass.
_NOTICEABLE, _TOO_MUCH = 5.0, 60.0
_MEND = "synchronise it, such as with chrony or systemd-timesyncd"


def check(urls: Sequence[str]) -> Check:
    """By the `Date` of the first server that answers."""
    return Check("clock", lambda: _clock(urls), _MEND)


def _clock(urls: Sequence[str]) -> Finding:
    now = time.time()
    if now < _EARLIEST:
        return fail(f"it is {time.strftime('%Y-%m-%d', time.gmtime(now))} here, which cannot be", _MEND)
    for url in urls:
        skew = _skew(url)
        if skew is None:
            continue
        told = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} {url}"
        if abs(skew) > _TOO_MUCH:
            return fail(f"{told}: signatures and tokens do not hold", _MEND)
        return warn(told, _MEND) if abs(skew) > _NOTICEABLE else ok(f"within {_NOTICEABLE:g} s of {url}")
    return warn("no server answers that it could be compared with", "mend what does not answer first")


def _skew(url: str) -> float | None:
    """How many seconds a server is ahead of us; its `Date` has no parts of seconds."""
    import httpx

    from builder.signing.loopback import is_loopback

    try:
        begun = time.time()
        answer = httpx.get(url, timeout=_SECONDS, trust_env=not is_loopback(url))
        between = (begun + time.time()) / 2
        return parsedate_to_datetime(answer.headers["date"]).timestamp() + 0.5 - between
    except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError):
        return None
