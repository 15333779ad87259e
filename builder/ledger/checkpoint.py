"""Checkpoints, in the form of C2SP tlog-checkpoint: origin, size and root, in a signed note."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from builder.ledger.note import Kind, Note, NoteInvalid, NoteNotSigned, VerifierKey, parse_note, verified
from builder.merkle.hashing import EMPTY_ROOT, HASH_BYTES

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a log that calls itself `origin`: `size` entries, and the root over them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint with the note that it was read from. `signers` are those of the given keys that have signed it, with
    the times of witnesses in UTC seconds."""

    checkpoint: Checkpoint
    note: Note
    signers: dict[VerifierKey, int | None]

    @property
    def witnesses(self) -> dict[str, int]:
        return {key.name: time for key, time in self.signers.items() if time is not None}


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint that a note's text is. Lines after the third are let pass. Raises NoteInvalid."""
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < 3 or not all(lines):
        raise NoteInvalid("a checkpoint has at least three lines, and none that is empty")
    if not _SIZE.fullmatch(lines[1]):
        raise NoteInvalid(f"{lines[1][:40]!r} is no size of a checkpoint")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except (binascii.Error, ValueError):
        root = b""
    if len(root) != HASH_BYTES or base64.b64encode(root).decode() != lines[2]:
        raise NoteInvalid(f"{lines[2][:80]!r} is no root of a checkpoint")
    found = Checkpoint(lines[0], int(lines[1]), root)
    if found.size == 0 and root != EMPTY_ROOT:
        raise NoteInvalid("the checkpoint gives a root to a log without entries that such a log cannot have")
    return found


def open_checkpoint(
    content: bytes, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey] = ()
) -> OpenedCheckpoint:
    """A checkpoint that one of `keys` has signed, whose name is the origin. Raises NoteInvalid or NoteNotSigned."""
    note = parse_note(content)
    checkpoint = parse_checkpoint(note.text)
    signers = verified(note, [*keys, *witnesses])
    if not any(key in signers and key.kind is Kind.ED25519 and key.name == checkpoint.origin for key in keys):
        raise NoteNotSigned(f"no key of {checkpoint.origin} that is believed has signed the checkpoint")
    return OpenedCheckpoint(checkpoint, note, signers)
