"""How often a caller may ask: so many requests a minute, and so many that make a worker work, over all API processes.

The count is Redis's. While that is away, or slow, each process counts on for itself: a limit that is too high for a
while does less harm than a service that refuses everybody.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import redis

from builder.errors import Unavailable

_WINDOW = 60
_REDIS_SECONDS = 0.25
# An answer that takes longer holds up all requests.
_SLOW_SECONDS = 0.05
# How long Redis is left alone after it did not answer, or did so slowly.
_PAUSE_SECONDS = 5.0

log = logging.getLogger("goldsmith.api")


class RateLimited(Unavailable):
    """The caller has asked too often. `Retry-After` says when it may ask again, `RateLimit` how much is left."""

    slug = "rate-limited"
    title = "Too many requests in this minute"
    status = 429

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail, hint=f"ask again in {retry_after} seconds")
        self.retry_after = retry_after


@dataclass(frozen=True)
class Policy:
    """At most `quota` a minute; 0 is no limit."""

    name: str
    quota: int


@dataclass(frozen=True)
class Counted:
    """A request of a caller, and what it is counted for."""

    caller: str
    policies: Sequence[Policy]


@dataclass(frozen=True)
class Left:
    """What is left of a policy's quota, and for how many seconds that is so. `exceeded`: this request was too much."""

    policy: Policy
    remaining: int
    seconds: int
    exceeded: bool

    def __str__(self) -> str:
        return f'"{self.policy.name}";r={self.remaining};t={self.seconds}'


def refuse_exceeded(caller: str, found: Sequence[Left]) -> None:
    """Raises RateLimited."""
    for left in found:
        if left.exceeded:
            raise RateLimited(
                f"{caller} may ask for {left.policy.quota} {left.policy.name} a minute", retry_after=left.seconds
            )


def rate_headers(found: Sequence[Left]) -> dict[str, str]:
    """As draft-ietf-httpapi-ratelimit-headers has them."""
    if not found:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{one.policy.name}";q={one.policy.quota};w={_WINDOW}' for one in found),
        "RateLimit": ", ".join(map(str, found)),
    }


class Rates:
    """`namespace` is this installation's own, in case others use the same Redis."""

    def __init__(self, redis_url: str, namespace: str) -> None:
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
        )
        self._namespace = hashlib.sha256(namespace.encode()).hexdigest()[:16]
        self._lock = threading.Lock()
        self._own: Counter[str] = Counter()
        self._own_window = 0
        self._away_until = 0.0

    @property
    def alone(self) -> bool:
        """Whether Redis is not asked now, so that to count waits for nothing."""
        return time.monotonic() < self._away_until

    def take(self, requests: Sequence[Counted]) -> list[tuple[Left, ...]]:
        """Count requests, for all of them in one exchange with Redis."""
        now = time.time()
        window, seconds = int(now // _WINDOW), max(1, _WINDOW - int(now % _WINDOW))
        keys = []
        for request in requests:
            name = hashlib.sha256(request.caller.encode()).hexdigest()[:32]
            keys += [
                f"goldsmith-rate:{self._namespace}:{policy.name}:{name}:{window}"
                for policy in request.policies
                if policy.quota
            ]
        counts = iter(self._counted(keys, window) if keys else ())
        return [
            tuple(
                Left(policy, max(0, policy.quota - count), seconds, count > policy.quota)
                for policy in request.policies
                if policy.quota
                for count in (next(counts),)
            )
            for request in requests
        ]

    def close(self) -> None:
        self._redis.close()

    def _counted(self, keys: list[str], window: int) -> list[int]:
        found: list[int] = []
        if not self.alone:
            began = time.monotonic()
            try:
                with self._redis.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.incr(key)
                        pipe.expire(key, 2 * _WINDOW)
                    found = [int(count) for count in pipe.execute()[::2]]
                took = time.monotonic() - began
                if took > _SLOW_SECONDS:
                    self._pause(f"it took {took:.2f} seconds")
            except redis.RedisError as error:
                self._pause(str(error))
        with self._lock:
            if window != self._own_window:
                self._own_window = window
                self._own.clear()
            if found:  # and counted on from there, if Redis is away next time
                for key, count in zip(keys, found, strict=True):
                    self._own[key] = max(self._own[key], count)
                return found
            counts = []
            for key in keys:
                self._own[key] += 1
                counts.append(self._own[key])
            return counts

    def _pause(self, why: str) -> None:
        self._away_until = time.monotonic() + _PAUSE_SECONDS
        log.warning("each API process counts requests for itself while Redis is away: %s", why)
