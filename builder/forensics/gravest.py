"""The gravest of many findings, in bounded memory."""

from __future__ import annotations

from builder.forensics.findings import Finding
from builder.forensics.weight import weight
from builder.image.entry import canonical_key

_MOST_WEIGHT = 24 * 1024 * 1024


class Gravest:
    """Counts every finding and keeps the gravest, at most `keep`, and at most 24 MiB of them."""

    def __init__(self, keep: int) -> None:
        self.total = 0
        self._keep = keep
        self._found: list[Finding] = []
        self._weight = 0

    def add(self, finding: Finding) -> None:
        self.total += 1
        self._found.append(finding)
        self._weight += _weight(finding)
        # Twice as much as is kept: sorting once for that many costs less than a heap does for each.
        if len(self._found) > 2 * self._keep or self._weight > 2 * _MOST_WEIGHT:
            self._cut()

    def found(self) -> tuple[Finding, ...]:
        """Gravest first, then by path."""
        self._cut()
        return tuple(self._found)

    def _cut(self) -> None:
        self._found.sort(key=lambda one: (-one.severity, canonical_key(one.difference.path)))
        self._weight = 0
        kept = 0
        for one in self._found[: self._keep]:
            if self._weight + _weight(one) > _MOST_WEIGHT:
                break
            self._weight += _weight(one)
            kept += 1
        del self._found[kept:]


def _weight(finding: Finding) -> int:
    entries = (finding.difference.golden, finding.difference.subject)
    return sum(weight(entry) for entry in entries if entry is not None)
