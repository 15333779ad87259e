"""A proof that an entry is in the ledger, to be kept beside what it is about: a few lines, as C2SP tlog-proof."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from builder.errors import Rejected
from builder.ledger.checkpoint import OpenedCheckpoint, open_checkpoint
from builder.ledger.note import VerifierKey
from builder.merkle.hashing import HASH_BYTES, leaf_hash
from builder.merkle.proofs import verify_inclusion

HEADER = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


class LedgerProofInvalid(Rejected):
    slug = "ledger-proof-invalid"
    title = "A proof of inclusion is not of its form"


@dataclass(frozen=True)
class LedgerProof:
    """`hashes` lead from the leaf upwards; `checkpoint` is a signed note, as it came."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        lines = [HEADER, f"index {self.index}", *(base64.b64encode(one).decode() for one in self.hashes)]
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint

    def verify(
        self, entry: bytes, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey] = ()
    ) -> OpenedCheckpoint:
        """That the entry is in a ledger which one of `keys` signs. Raises NoteInvalid, NoteNotSigned, ProofInvalid."""
        opened = open_checkpoint(self.checkpoint, keys, witnesses)
        found = opened.checkpoint
        verify_inclusion(self.index, found.size, leaf_hash(entry), self.hashes, found.root)
        return opened


def parse_proof(content: bytes) -> LedgerProof:
    """Raises LedgerProofInvalid; what follows the proof is not looked at before it is verified."""
    head, separator, checkpoint = content.partition(b"\n\n")
    try:
        header, *lines = head.decode("ascii").split("\n")
        if lines and lines[0].startswith("extra "):
            base64.b64decode(lines.pop(0).removeprefix("extra "), validate=True)
        index = _INDEX.fullmatch(lines.pop(0)) if lines else None
        hashes = tuple(base64.b64decode(line, validate=True) for line in lines)
    except ValueError as error:
        raise LedgerProofInvalid("the proof is not made of lines of base64") from error
    if header != HEADER or not separator or index is None:
        raise LedgerProofInvalid(f"the proof does not begin with {HEADER} and an index, or has no checkpoint")
    if len(hashes) > 63 or any(len(one) != HASH_BYTES for one in hashes):
        raise LedgerProofInvalid("a hash of the proof has not the length of one, or there are too many")
    return LedgerProof(int(index[1]), hashes, checkpoint)
