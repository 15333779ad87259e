"""JSON with one spelling for each value: RFC 8785 for what Goldsmith writes (strings, integers, lists, ASCII keys)."""

from __future__ import annotations

import json
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8 unescaped.

    Keys have to be ASCII, where the order of code points is RFC 8785's order too; numbers have to be integers.
    """
    return _ENCODER.encode(value).encode("utf-8")
