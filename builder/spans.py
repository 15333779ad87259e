"""Spans of OpenTelemetry, sent over OTLP where an operator wants them. They are told after the fact: a collector that
is away costs a line in the log and nothing else."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from builder import __version__

_SECONDS = 5
_NANOSECONDS = 1_000_000_000


def span_id(*parts: object) -> str:
    """The same for the same thing, whoever tells of it: so what workers tell of one build fits together. 16 hex."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()[:16]


class Spans:
    """One process's way to a collector. `service` is what it is called there."""

    def __init__(self, url: str, service: str) -> None:
        self._resource = Resource.create({"service.name": service, "service.version": __version__})
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=_SECONDS))

    def tell(
        self,
        name: str,
        *,
        trace: str,
        begun: float,
        ended: float,
        own: str | None = None,
        parent: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, str | int] | None = None,
        failure: str | None = None,
    ) -> None:
        """`trace` is 32 hex, `own` and `parent` are 16 hex; times are UTC seconds. Never waits."""
        self._processor.on_end(
            ReadableSpan(
                name,
                context=_context(trace, own or secrets.token_hex(8)),
                parent=_context(trace, parent) if parent else None,
                resource=self._resource,
                attributes=dict(attributes or {}),
                kind=kind,
                status=Status(StatusCode.ERROR, failure) if failure else Status(StatusCode.OK),
                start_time=int(begun * _NANOSECONDS),
                end_time=int(ended * _NANOSECONDS),
            )
        )

    def close(self) -> None:
        """Send what is left, within some seconds."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
