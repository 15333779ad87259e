"""Digests as OCI writes them (image-spec, descriptor.md): `sha256:` and 64 lower-case hex digits, nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import AfterValidator

from builder.errors import Rejected

CHUNK = 1024 * 1024
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_FORM = re.compile(r"sha256:[0-9a-f]{64}")


class DigestInvalid(Rejected):
    slug = "digest-invalid"
    title = "A digest is not valid"


class Readable(Protocol):
    """What a stream has to offer here: `read(n)` gives at most n bytes, and b"" at its end."""

    def read(self, size: int, /) -> bytes: ...


def parse_digest(text: str) -> str:
    """The digest itself if it is one. Raises DigestInvalid."""
    if not _FORM.fullmatch(text):
        raise DigestInvalid(f"{text[:100]!r} is not a digest", hint="write sha256: and 64 lower-case hex digits")
    return text


def _field(text: str) -> str:
    # Pydantic turns a ValueError, and no other, into a fault with the place it was found at.
    if not _FORM.fullmatch(text):
        raise ValueError("not a digest: sha256: and 64 lower-case hex digits are expected")
    return text


Digest = Annotated[str, AfterValidator(_field)]
"""A digest as a field of a Pydantic model."""


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def hex_of(digest: str) -> str:
    """The 64 hex digits of a digest. Raises DigestInvalid."""
    return parse_digest(digest).removeprefix("sha256:")


def chunks_of(stream: Readable, size: int = CHUNK) -> Iterator[bytes]:
    while chunk := stream.read(size):
        yield chunk


def digest_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        for chunk in chunks_of(stream):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
