"""The transparency log: entries in SQLite, a Merkle tree over them, and a key that signs what the log promises.

Every entry leaves with a signed entry timestamp (the promise), an inclusion proof and a signed checkpoint (its
fulfilment). One process holds a log, and one thread at a time appends: two writers would fork the tree.
"""

from __future__ import annotations

import base64
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import rfc8785

from builder.merkle.hashing import leaf_hash
from builder.sandbox.keys import Key, unusable
from builder.sandbox.merkle import MerkleTree

# Index 0 is used up at the start: some verifiers cannot tell it from a missing index.
GENESIS = rfc8785.dumps({"apiVersion": "0.0.1", "kind": "goldsmith-sandbox-genesis", "spec": {}})

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    log_index INTEGER PRIMARY KEY,
    leaf BLOB NOT NULL UNIQUE,
    body BLOB NOT NULL,
    integrated_time INTEGER NOT NULL
) STRICT
"""


class DuplicateEntry(Exception):
    """The same body is in the log already, at `log_index`."""

    def __init__(self, log_index: int) -> None:
        super().__init__(f"an equal entry is in the log at index {log_index}")
        self.log_index = log_index


@dataclass(frozen=True)
class InclusionProof:
    """An audit path to a root that `checkpoint` signs (RFC 6962, section 2.1.1)."""

    log_index: int
    tree_size: int
    root: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True)
class LogEntry:
    """An entry with its evidence. `integrated_time` is in seconds since 1970; `promise` is the signature over it."""

    leaf: bytes
    body: bytes
    integrated_time: int
    log_id: bytes
    promise: bytes
    proof: InclusionProof


class Log:
    """An append-only log. `origin` names it in its checkpoints; methods may be called from any thread."""

    def __init__(self, database: sqlite3.Connection, key: Key, origin: str) -> None:
        self._database = database
        self._key = key
        self._origin = origin
        self._lock = threading.Lock()
        rows = database.execute("SELECT log_index, leaf FROM entries ORDER BY log_index").fetchall()
        if [index for index, _ in rows] != list(range(len(rows))):
            raise ValueError("an entry of the log is missing")
        self._tree = MerkleTree(leaf for _, leaf in rows)
        if not rows:
            self.append(GENESIS)

    @classmethod
    def open(cls, path: Path, key: Key, origin: str) -> Self:
        """The log in a SQLite file, which is made if need be. Raises SandboxStateInvalid."""
        try:
            database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            # An answered entry must survive a power cut: its promise is signed and gone.
            database.execute("PRAGMA synchronous = FULL")
            database.execute(_SCHEMA)
            return cls(database, key, origin)
        except (sqlite3.Error, ValueError) as error:
            raise unusable(path, f"cannot be read as a log: {error}") from error

    @property
    def tree_id(self) -> str:
        """Sixteen hex digits before each entry's hash in its identifier, as in Rekor."""
        return self._key.log_id.hex()[:16]

    @property
    def size(self) -> int:
        return len(self._tree)

    def append(self, body: bytes) -> LogEntry:
        """Add an entry, and return it once it is on disk. Raises DuplicateEntry."""
        leaf = leaf_hash(body)
        now = int(time.time())
        with self._lock:
            index = len(self._tree)
            try:
                self._database.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (index, leaf, body, now))
            except sqlite3.IntegrityError as error:
                row = self._database.execute("SELECT log_index FROM entries WHERE leaf = ?", (leaf,)).fetchone()
                if row is None:
                    raise
                raise DuplicateEntry(row[0]) from error
            self._tree.append(leaf)
            return self._entry(index, leaf, body, now)

    def by_index(self, log_index: int) -> LogEntry | None:
        return self._find("SELECT log_index, leaf, body, integrated_time FROM entries WHERE log_index = ?", log_index)

    def by_leaf(self, leaf: bytes) -> LogEntry | None:
        return self._find("SELECT log_index, leaf, body, integrated_time FROM entries WHERE leaf = ?", leaf)

    def checkpoint(self) -> str:
        """The signed note over the current size and root (transparency-dev's checkpoint format)."""
        with self._lock:
            return self._checkpoint()

    def root(self, size: int) -> bytes:
        """The root the log had at `size`. Raises IndexError."""
        with self._lock:
            return self._tree.root(size)

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        """That the log of size `first` begins the one of size `second`. Raises IndexError for sizes it never had."""
        with self._lock:
            return self._tree.consistency_proof(first, second)

    def close(self) -> None:
        self._database.close()

    def _find(self, query: str, value: int | bytes) -> LogEntry | None:
        with self._lock:
            row = self._database.execute(query, (value,)).fetchone()
            return self._entry(*row) if row else None

    def _entry(self, index: int, leaf: bytes, body: bytes, integrated_time: int) -> LogEntry:
        promised: dict[str, int | str] = {
            "body": base64.b64encode(body).decode(),
            "integratedTime": integrated_time,
            "logID": self._key.log_id.hex(),
            "logIndex": index,
        }
        proof = InclusionProof(
            log_index=index,
            tree_size=len(self._tree),
            root=self._tree.root(),
            hashes=tuple(self._tree.inclusion_proof(index)),
            checkpoint=self._checkpoint(),
        )
        promise = self._key.sign(rfc8785.dumps(promised))
        return LogEntry(leaf, body, integrated_time, self._key.log_id, promise, proof)

    def _checkpoint(self) -> str:
        root = base64.b64encode(self._tree.root()).decode()
        note = f"{self._origin}\n{len(self._tree)}\n{root}\n"
        signature = base64.b64encode(self._key.log_id[:4] + self._key.sign(note.encode())).decode()
        return f"{note}\n— {self._origin} {signature}\n"
