"""The rebuild worker with another compression level: what a newer library does to the bytes of a layer."""

from __future__ import annotations

from builder.image import layer
from workers import rebuild
from workers.app import app

__all__ = ["app", "rebuild"]

layer._LEVEL = 1
