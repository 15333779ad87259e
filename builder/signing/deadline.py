"""A time limit for work that has none of its own: Sigstore's client waits for its services for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

import requests
from requests.adapters import HTTPAdapter

from builder.signing.loopback import is_loopback

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """The result of `work`, or its exception; TimeoutError after `seconds`, and then the work is abandoned.

    A thread cannot be ended from outside, so give what it waits for a time limit too (`limit_waits`).
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon, so that abandoned work does not keep the process from ending.
    threading.Thread(target=run, name="within-deadline", daemon=True).start()
    return outcome.result(timeout=seconds)


def limit_waits(session: requests.Session, seconds: float) -> None:
    """Let no connection of a session stay silent for longer than `seconds`, nor reach this machine by a proxy."""
    adapter = _LimitedAdapter(seconds)
    session.mount("http://", adapter)
    session.mount("https://", adapter)


class _LimitedAdapter(HTTPAdapter):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        if is_loopback(request.url or ""):
            proxies = None
        limit = self._seconds if timeout is None else timeout
        return super().send(request, stream=stream, timeout=limit, verify=verify, cert=cert, proxies=proxies)
