"""What is released enters the ledger, is signed and published soon, and holds for whoever asks or kept a checkpoint."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from builder.image.documents import parse_manifest
from builder.ledger.checkpoint import OpenedCheckpoint, open_checkpoint
from builder.ledger.entry import parse_entry
from builder.ledger.note import VerifierKey, parse_key
from builder.ledger.proof import parse_proof
from builder.registry.reference import Repository
from tests.end_to_end.world import Goldsmith, Released


def key(goldsmith: Goldsmith) -> VerifierKey:
    return parse_key(goldsmith.client["ledgerKey"])


def published(goldsmith: Goldsmith) -> OpenedCheckpoint | None:
    repository = Repository(goldsmith.stack.registry, "goldsmith/ledger")
    found = goldsmith.registry.manifests.find(repository.tagged("checkpoint"))
    if found is None:
        return None
    content = goldsmith.registry.blobs.fetch(repository, parse_manifest(found.data).layers[0])
    return open_checkpoint(content, [key(goldsmith)])


def test_a_release_is_in_the_newest_checkpoint_and_that_in_the_registry(goldsmith: Goldsmith, web: Released) -> None:
    record = goldsmith.api.get(f"/v1/images/{web.digest}/record").content
    digest = "sha256:" + hashlib.sha256(record).hexdigest()
    asked = {"record": digest, "format": "tlog-proof"}
    deadline = time.monotonic() + 30
    while (answer := goldsmith.api.get("/v1/ledger/proofs/inclusion", params=asked)).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    proof = parse_proof(answer.content)
    entry = goldsmith.api.get(f"/v1/ledger/entries/{proof.index}").content
    opened = proof.verify(entry, [key(goldsmith)])
    assert parse_entry(entry).record_digest == digest
    assert parse_entry(entry).image_digest == web.digest
    while (found := published(goldsmith)) is None or found.checkpoint.size < opened.checkpoint.size:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_it_verifies_from_outside_with_the_key_that_the_quickstart_noted_down(
    goldsmith: Goldsmith, web: Released, tmp_path: Path
) -> None:
    kept = str(tmp_path / "kept")
    assert goldsmith.run("ledger", "checkpoint", "--save", kept).returncode == 0
    done = goldsmith.run("ledger", "verify", "--checkpoint", kept)
    assert "own word" not in done.stderr
    assert "intact" in done.stdout
    assert goldsmith.run("ledger", "proof", web.digest).returncode == 0


def test_only_the_release_worker_has_the_key(goldsmith: Goldsmith) -> None:
    setting = "GOLDSMITH_LEDGER_KEY_FILE"
    roles = ("api", "build", "scan", "release", "rebuild", "dispatcher")
    assert [role for role in roles if setting in goldsmith.stack.environment(role)] == ["release"]
