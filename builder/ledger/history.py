"""Checkpoints held against a tree as it grows: whatever was signed for a size must be its root at that size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge

from builder.ledger.checkpoint import Checkpoint
from builder.ledger.damage import LedgerNotIntact, Reason
from builder.merkle.frontier import Frontier


@dataclass(frozen=True)
class Kept:
    """A checkpoint whose signature has been verified, and where it comes from, in words."""

    checkpoint: Checkpoint
    source: str


class History:
    """Checkpoints in the order of their sizes, taken as the tree reaches them."""

    def __init__(self, *kept: Iterable[Kept]) -> None:
        """Each of the iterables in the order of sizes."""
        self._kept: Iterator[Kept] = merge(*kept, key=lambda one: one.checkpoint.size)
        self._next = next(self._kept, None)
        self.agreed = 0
        self.checked = 0

    def reach(self, tree: Frontier) -> None:
        """Raises LedgerNotIntact for a checkpoint of this size with another root."""
        while self._next is not None and self._next.checkpoint.size == tree.size:
            kept, self._next = self._next, next(self._kept, None)
            if kept.checkpoint.root != tree.root():
                raise LedgerNotIntact(
                    Reason.REWRITTEN,
                    f"the first {tree.size} entries are not those that {kept.source} signed; "
                    + (f"the first {self.agreed} are" if self.agreed else "no smaller checkpoint agrees"),
                )
            self.agreed, self.checked = tree.size, self.checked + 1

    def end(self, tree: Frontier) -> None:
        """The tree has no more leaves. Raises LedgerNotIntact for a checkpoint of a larger one."""
        self.reach(tree)
        if self._next is not None:
            raise LedgerNotIntact(
                Reason.SHORTENED,
                f"{self._next.source} signed {self._next.checkpoint.size} entries, and there are {tree.size}",
            )
