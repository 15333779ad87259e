"""Signing the ledger as it is, and telling the world: what is in the registry is out of the database's reach.

Nothing is signed that does not continue everything the signer knows to have been signed: what the registry has, what it
has noted down itself, what the database keeps. So who rewrites the database gets no signature for it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from builder.errors import Broken
from builder.image.documents import EMPTY, EMPTY_DESCRIPTOR, Manifest, parse_manifest
from builder.ledger import checkpoints, stored
from builder.ledger.checkpoint import Checkpoint, open_checkpoint
from builder.ledger.history import Kept
from builder.ledger.note import Note, NoteInvalid, NoteNotSigned, VerifierKey
from builder.merkle.proofs import Nodes, ProofInvalid, consistency_proof, verify_consistency
from builder.pipeline.services import Services
from builder.registry.reference import Repository

ARTIFACT = "application/vnd.goldsmith.ledger.checkpoint.v1"
NEWEST = "checkpoint"
_TEXT = "text/plain; charset=utf-8"
_DATABASE = "the database"
_MAX_NOTE = 1024 * 1024

log = logging.getLogger("goldsmith.ledger")


class LedgerForked(Broken):
    """What is in the database does not continue what was signed before: it was altered, or restored from a backup."""

    slug = "ledger-forked"
    title = "The ledger does not continue what was signed before"


def sign_checkpoint(services: Services) -> int:
    """Sign the ledger as it is, keep the checkpoint, and push it to the registry. Answers its size, 0 for no entry yet.

    It may run any number of times: the same state has the same signature. Signers take turns, or the older of two
    could be the one that the registry has in the end. Raises LedgerForked, and what the registry raises.
    """
    with services.database.turn("ledger"):
        return _sign_checkpoint(services)


def _sign_checkpoint(services: Services) -> int:
    key, repository = services.ledger_key, services.ledger_repository
    with services.database.read() as session:
        head = stored.head(session)
        if not head.size:
            return 0
        new = Checkpoint(key.origin, head.size, head.root())
        believed = [key.verifier, *(one for one in checkpoints.keys(session) if one != key.verifier)]
        nodes = stored.nodes(session, new.size)
        newest = checkpoints.find(session, checkpoints.newest_size(session))
        for kept in _known(services, repository, newest, believed):
            _require_continued(kept, new, nodes)
    note = key.sign(new)
    with services.database.write() as session:
        checkpoints.keep(session, note, key.verifier)
    _publish(services, repository, new.size, note, believed)
    with services.database.write() as session:
        checkpoints.mark_published(session, new.size)
    _note_down(services.ledger_note, note)
    return new.size


def due(services: Services) -> bool:
    """Whether there is something that is not signed and published yet."""
    with services.database.read() as session:
        size = stored.head(session).size
        return bool(size) and checkpoints.published_size(session) < size


def _known(
    services: Services, repository: Repository, newest: Note | None, believed: list[VerifierKey]
) -> Iterator[Kept]:
    """What was signed before, wherever there is a copy. Raises LedgerForked for one that nobody we know has signed."""
    published = services.registry.manifests.find(repository.tagged(NEWEST))
    copies = {
        f"{repository}:{NEWEST}": _note_in(services, repository, published.data) if published else None,
        str(services.ledger_note): services.ledger_note.read_bytes() if services.ledger_note.exists() else None,
        _DATABASE: newest.encode() if newest else None,
    }
    for source, content in copies.items():
        if content is None:
            continue
        try:
            yield Kept(open_checkpoint(content, believed).checkpoint, source)
        except (NoteInvalid, NoteNotSigned) as error:
            raise LedgerForked(
                f"{source} has a checkpoint that is not this ledger's: {error.detail}",
                hint="another installation's needs another GOLDSMITH_LEDGER_REPOSITORY",
            ) from error


def _require_continued(kept: Kept, new: Checkpoint, nodes: Nodes) -> None:
    old = kept.checkpoint
    # Under a new name a ledger begins anew for everybody else, but its rows are still the old ones.
    if old.origin != new.origin and kept.source != _DATABASE:
        raise LedgerForked(
            f"{kept.source} has a checkpoint of {old.origin}, and this ledger is {new.origin}",
            hint="GOLDSMITH_LEDGER_ORIGIN must stay what it was, or GOLDSMITH_LEDGER_REPOSITORY be another",
        )
    why = f"{kept.source} has a checkpoint of {old.size} entries, and what is there now does not continue it"
    hint = "`goldsmith ledger verify --database` says where; nothing is signed until it does"
    if old.size > new.size:
        raise LedgerForked(f"{why}: there are {new.size} entries", hint=hint)
    try:
        path = consistency_proof(old.size, new.size, nodes)
        verify_consistency(old.size, new.size, old.root, new.root, path)
    except (ProofInvalid, IndexError, stored.LedgerDamaged) as error:
        raise LedgerForked(f"{why}: {error}", hint=hint) from error


def _publish(services: Services, repository: Repository, size: int, note: Note, believed: list[VerifierKey]) -> None:
    registry, tag = services.registry, f"size-{size}"
    registry.blobs.push_bytes(repository, b"{}", EMPTY)
    layer = registry.blobs.push_bytes(repository, note.encode(), _TEXT)
    named = layer.model_copy(update={"annotations": {"org.opencontainers.image.title": "checkpoint"}})
    manifest = Manifest(artifact_type=ARTIFACT, config=EMPTY_DESCRIPTOR, layers=(named,)).to_bytes()
    there = registry.manifests.find(repository.tagged(tag))
    if there is None:
        registry.manifests.put(repository.tagged(tag), manifest)
    elif there.data != manifest:
        before = open_checkpoint(_note_in(services, repository, there.data), believed).checkpoint
        if before.text != note.text:
            raise LedgerForked(f"{repository}:{tag} has another root for {size} entries")
    newest = registry.manifests.find(repository.tagged(NEWEST))
    if newest is None or open_checkpoint(_note_in(services, repository, newest.data), believed).checkpoint.size < size:
        registry.manifests.put(repository.tagged(NEWEST), manifest)


def _note_in(services: Services, repository: Repository, manifest: bytes) -> bytes:
    layers = parse_manifest(manifest).layers
    if len(layers) != 1:
        raise LedgerForked(f"{repository}:{NEWEST} is no checkpoint", hint="it is Goldsmith's alone to write")
    return services.registry.blobs.fetch(repository, layers[0], limit=_MAX_NOTE)


def _note_down(path: Path, note: Note) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(note.encode())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
