"""The log keeps what it has promised: over restarts, from many threads, and never twice."""

from __future__ import annotations

import base64
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from builder.merkle.hashing import leaf_hash
from builder.sandbox.keys import Key, SandboxStateInvalid
from builder.sandbox.log import GENESIS, DuplicateEntry, Log
from builder.sandbox.merkle import MerkleTree

ORIGIN = "127.0.0.1"


@pytest.fixture
def key() -> Key:
    return Key.generate()


def verify(key: Key, signature: bytes, data: bytes) -> None:
    key.private.public_key().verify(signature, data, ec.ECDSA(hashes.SHA256()))


def test_index_0_is_used_up_by_a_genesis_entry(tmp_path: Path, key: Key) -> None:
    log = Log.open(tmp_path / "log", key, ORIGIN)
    genesis = log.by_index(0)
    assert genesis is not None
    assert genesis.body == GENESIS
    assert log.append(b"first").proof.log_index == 1


def test_an_entry_comes_with_a_promise_that_verifies(tmp_path: Path, key: Key) -> None:
    entry = Log.open(tmp_path / "log", key, ORIGIN).append(b"body")
    promised: dict[str, int | str] = {
        "body": base64.b64encode(b"body").decode(),
        "integratedTime": entry.integrated_time,
        "logID": key.log_id.hex(),
        "logIndex": 1,
    }
    verify(key, entry.promise, rfc8785.dumps(promised))


def test_a_checkpoint_is_a_signed_note_over_the_root(tmp_path: Path, key: Key) -> None:
    log = Log.open(tmp_path / "log", key, ORIGIN)
    log.append(b"body")
    note, _, signature_line = log.checkpoint().partition("\n\n")
    origin, size, root = note.splitlines()
    assert (origin, size) == (ORIGIN, "2")
    assert base64.b64decode(root) == MerkleTree([leaf_hash(GENESIS), leaf_hash(b"body")]).root()
    dash, name, signature = signature_line.split()
    assert (dash, name) == ("—", ORIGIN)
    raw = base64.b64decode(signature)
    assert raw[:4] == key.log_id[:4]
    verify(key, raw[4:], f"{note}\n".encode())


def test_a_restart_changes_nothing(tmp_path: Path, key: Key) -> None:
    log = Log.open(tmp_path / "log", key, ORIGIN)
    entries = [log.append(f"entry {number}".encode()) for number in range(40)]
    log.close()
    again = Log.open(tmp_path / "log", key, ORIGIN)
    assert again.size == 41
    assert again.root(41) == entries[-1].proof.root
    for entry in entries:
        found = again.by_leaf(entry.leaf)
        assert found is not None
        assert (found.body, found.integrated_time, found.proof.log_index) == (
            entry.body,
            entry.integrated_time,
            entry.proof.log_index,
        )


def test_the_same_body_is_logged_once(tmp_path: Path, key: Key) -> None:
    log = Log.open(tmp_path / "log", key, ORIGIN)
    log.append(b"body")
    with pytest.raises(DuplicateEntry) as caught:
        log.append(b"body")
    assert caught.value.log_index == 1
    assert log.size == 2
    assert log.append(b"next").proof.log_index == 2


def test_threads_get_one_index_each(tmp_path: Path, key: Key) -> None:
    log = Log.open(tmp_path / "log", key, ORIGIN)
    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda number: log.append(b"%d" % number), range(80)))
    assert sorted(entry.proof.log_index for entry in entries) == list(range(1, 81))


def test_what_is_not_in_the_log_is_not_found(tmp_path: Path, key: Key) -> None:
    log = Log.open(tmp_path / "log", key, ORIGIN)
    assert log.by_index(1) is None
    assert log.by_leaf(leaf_hash(b"nothing")) is None


def test_a_log_with_a_missing_entry_is_not_opened(tmp_path: Path, key: Key) -> None:
    log = Log.open(tmp_path / "log", key, ORIGIN)
    log.append(b"one")
    log.append(b"two")
    log.close()
    database = sqlite3.connect(tmp_path / "log")
    database.execute("DELETE FROM entries WHERE log_index = 1")
    database.commit()
    database.close()
    with pytest.raises(SandboxStateInvalid, match="an entry of the log is missing"):
        Log.open(tmp_path / "log", key, ORIGIN)


def test_a_file_that_is_no_log_is_named(tmp_path: Path, key: Key) -> None:
    (tmp_path / "log").write_bytes(b"this is not a database, and long enough to be taken for one" * 20)
    with pytest.raises(SandboxStateInvalid, match="log cannot be read as a log"):
        Log.open(tmp_path / "log", key, ORIGIN)
