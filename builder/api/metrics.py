"""Metrics for Prometheus: how the service stands by its database, and what this process has answered."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from builder import __version__
from builder.api.access import Caller, Store
from builder.api.problems import documented, known_problems
from builder.errors import GoldsmithError, Rejected, Unavailable
from builder.ledger import checkpoints, stored
from builder.store.database import Database
from builder.store.measures import measure
from builder.store.schema import Build, Release

router = APIRouter(tags=["service"])

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Answered:
    """What one process has answered, by method, route and status."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.requests = Counter(
            "goldsmith_http_requests", "Requests answered.", (*labels, "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "goldsmith_http_request_seconds",
            "Until an answer began.",
            labels,
            registry=self.registry,
            buckets=_BUCKETS,
        )


class Measuring:
    """Middleware: counts answers by the route's pattern, never by what a caller wrote."""

    def __init__(self, app: ASGIApp, answered: Answered) -> None:
        self._app, self._answered = app, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"], begun)
            await send(message)

        try:
            await self._app(scope, receive, telling)
        except Exception:
            # What answers it lies further out.
            self._count(scope, 500, begun)
            raise

    def _count(self, scope: Scope, status: int, begun: float) -> None:
        route = scope.get("route")
        known = scope["method"] in (getattr(route, "methods", None) or ())
        method, path = (scope["method"], route.path) if known and route else ("any", "none")
        self._answered.requests.labels(method, path, str(status)).inc()
        self._answered.seconds.labels(method, path).observe(time.perf_counter() - begun)


@router.get(
    "/metrics",
    summary="Metrics, for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "In its text format."},
        **documented(401, 403, 503),
    },
)
def get_metrics(request: Request, _: Caller, database: Store) -> Response:
    """Of builds, what is open now and what ended within an hour: any number of API processes say the same of them.
    Of HTTP, what the process that answers has seen since it started."""
    standing = CollectorRegistry()
    standing.register(_Standing(database))
    answered: Answered = request.app.state.answered
    return Response(generate_latest(standing) + generate_latest(answered.registry), media_type=CONTENT_TYPE_LATEST)


class _Standing(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> list[Metric]:
        return []  # or it would be collected once more, to see its names

    def collect(self) -> Iterator[Metric]:
        yield _gauge("goldsmith_info", "The version that runs.", ("version",), [((__version__,), 1)])
        with self._database.read() as session:
            yield from _builds(session)
            yield from _evidence(session)


def _builds(session: Session) -> Iterator[Metric]:
    found, known = measure(session), known_problems()
    queues, steps = found.queues.items(), found.steps.items()
    by_step = ("step", "state")
    yield _gauge("goldsmith_builds_open", "Builds that have not ended.", ("state",), _single(found.open.items()))
    yield _gauge(
        "goldsmith_queue_messages",
        "Messages that no worker has taken.",
        ("queue",),
        _single((queue, one.count) for queue, one in queues),
    )
    yield _gauge(
        "goldsmith_queue_oldest_seconds",
        "Age of the oldest of these.",
        ("queue",),
        _single((queue, one.oldest) for queue, one in queues),
    )
    yield _gauge(
        "goldsmith_builds_ended_last_hour",
        "Builds that ended, by the problem's type, and whose fault that is: rejected, unavailable or broken.",
        ("state", "problem", "family"),
        (((state, kind, _family(kind, known)), number) for (state, kind), number in found.ended.items()),
    )
    yield _gauge(
        "goldsmith_builds_unchanged_last_hour",
        "Builds that an earlier release answered.",
        (),
        [((), found.unchanged)],
    )
    yield _gauge("goldsmith_steps_last_hour", "Steps that ended.", by_step, ((key, one.count) for key, one in steps))
    yield _gauge(
        "goldsmith_steps_seconds_last_hour", "Time spent in them.", by_step, ((key, one.seconds) for key, one in steps)
    )
    yield _gauge(
        "goldsmith_step_seconds_median", "Of the last hour's.", by_step, ((key, one.median) for key, one in steps)
    )
    yield _gauge("goldsmith_step_seconds_p95", "Of the last hour's.", by_step, ((key, one.most) for key, one in steps))


def _evidence(session: Session) -> Iterator[Metric]:
    entries = stored.head(session).size
    unsigned = entries - checkpoints.published_size(session)
    yield _gauge("goldsmith_ledger_entries", "Entries of the ledger.", (), [((), entries)])
    yield _gauge("goldsmith_ledger_entries_unsigned", "Those in no published checkpoint yet.", (), [((), unsigned)])
    newest = session.execute(
        select(Build.evidence, Release.released_at)
        .join(Release, Release.build_id == Build.id)
        .order_by(Release.released_at.desc())
        .limit(1)
    ).first()
    made = ((newest.evidence.get("scan") or {}).get("database") or {}).get("updated_at") if newest else None
    if newest is not None and made is not None:
        # When it was used, so that it does not age while nothing is built.
        age = max(0.0, newest.released_at - datetime.fromisoformat(made).timestamp())
        yield _gauge("goldsmith_vulnerability_database_age_seconds", "At the newest release.", (), [((), age)])


def _family(problem: str, known: Mapping[str, type[GoldsmithError]]) -> str:
    """Of an ended build's problem; a type that this version does not know is one that we should look at."""
    if not problem:
        return ""
    kind = known.get(problem.removeprefix("/problems/"))
    return next((one.__name__.lower() for one in (Rejected, Unavailable) if kind and issubclass(kind, one)), "broken")


def _single(values: Iterable[tuple[str, float]]) -> Iterable[tuple[tuple[str, ...], float]]:
    return (((key,), value) for key, value in values)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family
