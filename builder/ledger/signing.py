"""The ledger's own key: Ed25519, in a file that only its owner can read. Only the release worker has it."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from builder.errors import Rejected, SettingsInvalid
from builder.ledger.checkpoint import Checkpoint
from builder.ledger.note import Kind, Note, NoteSignature, VerifierKey
from builder.private import open_to_others, write_private

_GENERATE = "`goldsmith ledger key generate FILE` makes one"


class KeyNotWritten(Rejected):
    slug = "ledger-key-not-written"
    title = "The ledger's key cannot be written"


class LedgerKey:
    """Signs checkpoints under the name of the log, its origin."""

    def __init__(self, private: Ed25519PrivateKey, origin: str) -> None:
        self._private = private
        self.origin = origin

    @classmethod
    def load(cls, path: Path, origin: str) -> LedgerKey:
        """Raises SettingsInvalid, also when others can read the file."""
        try:
            mode = open_to_others(path)
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise _unusable(f"{path} cannot be read: {error.strerror}", _GENERATE) from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _unusable(f"{path} holds no private key in PEM", _GENERATE) from error
        if mode:
            raise _unusable(f"{path} can be read by others (mode {mode})", f"chmod 600 {path}")
        if not isinstance(key, Ed25519PrivateKey):
            raise _unusable(f"{path} is not an Ed25519 key", _GENERATE)
        return cls(key, origin)

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.origin, Kind.ED25519, self._private.public_key().public_bytes_raw())

    def sign(self, checkpoint: Checkpoint) -> Note:
        """The same bytes for the same checkpoint, each time."""
        signature = self._private.sign(checkpoint.text.encode())
        return Note(checkpoint.text, (NoteSignature(self.verifier.name, self.verifier.id, signature),))


def generate_key(path: Path) -> None:
    """Write a new key to a new file, PKCS #8 in PEM, mode 0600. Raises KeyNotWritten."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        write_private(path, pem)
    except FileExistsError as error:
        raise KeyNotWritten(
            f"{path} is there already", hint="a key that has signed checkpoints must be kept; name another file"
        ) from error
    except OSError as error:
        raise KeyNotWritten(f"{path} cannot be written: {error.strerror}") from error


def _unusable(why: str, hint: str) -> SettingsInvalid:
    return SettingsInvalid(f"GOLDSMITH_LEDGER_KEY_FILE: {why}", hint=hint)
