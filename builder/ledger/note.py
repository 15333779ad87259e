"""Signed notes, in the form of C2SP signed-note: a text, an empty line, and a line for each signature.

Two kinds of signature are known: Ed25519 over the text (0x01), and the timestamped cosignatures of witnesses (0x04,
C2SP tlog-cosignature). What a key that is not given has signed is kept and ignored, as the specification says.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from builder.errors import Rejected

_ID_BYTES = 4
_TIME_BYTES = 8
_ED25519_BYTES = 64
_MAX_SIGNATURES = 100
MAX_NOTE = 1_000_000
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_PREFIX = "— "


class NoteInvalid(Rejected):
    slug = "note-invalid"
    title = "A signed note is not of its form"


class NoteNotSigned(Rejected):
    slug = "note-not-signed"
    title = "A note is not signed by whom it should be"


class VerifierKeyInvalid(Rejected):
    slug = "verifier-key-invalid"
    title = "A verifier key is not valid"


class Kind(IntEnum):
    """The type byte of a signature."""

    ED25519 = 1
    COSIGNATURE = 4


@dataclass(frozen=True)
class NoteSignature:
    """One signature line. `data` is what follows the key's id."""

    name: str
    key_id: bytes
    data: bytes

    def __str__(self) -> str:
        return f"{_PREFIX}{self.name} {base64.b64encode(self.key_id + self.data).decode()}"


@dataclass(frozen=True)
class Note:
    """`text` ends with a line end."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        return (self.text + "\n" + "".join(f"{one}\n" for one in self.signatures)).encode()


@dataclass(frozen=True)
class VerifierKey:
    """Whose signatures to believe: written `name+id+base64`, a vkey."""

    name: str
    kind: Kind
    public: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    def made(self, signature: NoteSignature) -> bool:
        """Whether a signature says that it is this key's."""
        return (signature.name, signature.key_id) == (self.name, self.id)

    def verify(self, text: str, signature: NoteSignature) -> int | None:
        """The time of a cosignature in UTC seconds, None for any other that holds. Raises NoteNotSigned."""
        message, data, time = text.encode(), signature.data, None
        if self.kind is Kind.COSIGNATURE:
            time = int.from_bytes(data[:_TIME_BYTES], "big")
            message, data = b"cosignature/v1\ntime %d\n" % time + message, data[_TIME_BYTES:]
        try:
            if len(data) != _ED25519_BYTES or (time or 0) >= 1 << 63:
                raise InvalidSignature
            Ed25519PublicKey.from_public_bytes(self.public).verify(data, message)
        except InvalidSignature:
            raise NoteNotSigned(f"the signature of {self.name}+{self.id.hex()} does not hold") from None
        return time


def parse_note(content: bytes) -> Note:
    """Raises NoteInvalid."""
    if len(content) > MAX_NOTE:
        raise NoteInvalid(f"a note may have {MAX_NOTE} bytes")
    try:
        whole = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteInvalid("the note is not UTF-8") from error
    if _CONTROL.search(whole):
        raise NoteInvalid("the note has a control character in it")
    text, separator, lines = whole.rpartition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise NoteInvalid("the note has no signature after an empty line, or is cut off")
    found = tuple(_signature(line) for line in lines[:-1].split("\n"))
    if len(found) > _MAX_SIGNATURES:
        raise NoteInvalid(f"the note has more than {_MAX_SIGNATURES} signatures")
    return Note(text + "\n", found)


def parse_key(text: str) -> VerifierKey:
    """Raises VerifierKeyInvalid."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    material = _base64(encoded)
    if not is_key_name(name) or material is None or len(material) != 33 or material[0] not in list(Kind):
        raise VerifierKeyInvalid(
            f"{text[:100]!r} is no Ed25519 verifier key", hint="it is written name+id+base64 (C2SP signed-note)"
        )
    key = VerifierKey(name, Kind(material[0]), material[1:])
    if key.id.hex() != key_id:
        raise VerifierKeyInvalid(f"the key {name} has the id {key.id.hex()}, not {key_id[:20]!r}", hint="copy it anew")
    return key


def is_key_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(character.isspace() for character in name)


def verified(note: Note, keys: Iterable[VerifierKey]) -> dict[VerifierKey, int | None]:
    """The given keys that have signed the note, each with the time that it gives, if any.

    Raises NoteNotSigned when a signature of a given key does not hold, or when there is none.
    """
    known, found = list(keys), dict[VerifierKey, int | None]()
    for signature in note.signatures:
        for key in known:
            if key.made(signature) and key not in found:
                found[key] = key.verify(note.text, signature)
    if not found:
        names = ", ".join(sorted({one.name for one in note.signatures}))
        raise NoteNotSigned(f"none of the keys that are believed has signed the note, but {names}")
    return found


def _signature(line: str) -> NoteSignature:
    name, separator, encoded = line.removeprefix(_PREFIX).partition(" ")
    data = _base64(encoded)
    if not line.startswith(_PREFIX) or not separator or not is_key_name(name) or not data or len(data) <= _ID_BYTES:
        raise NoteInvalid(f"{line[:100]!r} is no line of a signature")
    return NoteSignature(name, data[:_ID_BYTES], data[_ID_BYTES:])


def _base64(text: str) -> bytes | None:
    """Base64 (RFC 4648, section 4) in its one form."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None
