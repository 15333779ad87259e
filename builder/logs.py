"""Logs for people, or one JSON object a line for whoever collects them; each says its request, build and trace."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

from builder.tracing import current_trace

# What this thread or task works on.
current_build: ContextVar[str | None] = ContextVar("build", default=None)
current_request: ContextVar[str | None] = ContextVar("request", default=None)

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """Members: time (RFC 3339), level, logger, message, and request, build, trace, exception where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request": current_request.get(),
            "build": current_build.get(),
            "trace": current_trace.get(),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in told.items() if value is not None}, ensure_ascii=False)


def configure_logs(form: Literal["text", "json"]) -> None:
    """Have everything that this process logs written to stderr in one form, servers' and libraries' own lines too."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(_TEXT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("uvicorn", "celery")]:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
