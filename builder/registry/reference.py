"""Names of repositories and images: `HOST[:PORT]/REPOSITORY[:TAG][@sha256:HEX]` (distribution-spec).

The registry is always named. A name without one means different things to different tools, so it is refused.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from builder.image.digests import parse_digest
from builder.registry.errors import ReferenceInvalid

_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::\d{1,5})?"
)
_HOST_V6 = re.compile(r"\[[0-9a-fA-F:]+\](?::\d{1,5})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_FORM = "write HOST[:PORT]/REPOSITORY, then :TAG or @sha256:DIGEST; `goldsmith images` lists what is released"


@dataclass(frozen=True)
class Repository:
    """A repository: `registry` is HOST[:PORT], `name` its path."""

    registry: str
    name: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}"

    def at(self, digest: str) -> Reference:
        return Reference(self, digest=parse_digest(digest))

    def tagged(self, tag: str) -> Reference:
        if not _TAG.fullmatch(tag):
            raise ReferenceInvalid(f"{tag[:150]!r} is not a tag", hint="up to 128 letters, digits, '.', '_' and '-'")
        return Reference(self, tag=tag)


@dataclass(frozen=True)
class Reference:
    """An image in a repository. With both a tag and a digest, the digest decides and the tag only informs."""

    repository: Repository
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"

    @property
    def path(self) -> str:
        """What stands after /manifests/ in a request."""
        return self.digest or self.tag or "latest"


def parse_repository(text: str) -> Repository:
    """Raises ReferenceInvalid."""
    host, slash, name = text.partition("/")
    if not slash or not (("." in host) or (":" in host) or host == "localhost"):
        raise ReferenceInvalid(f"{text[:200]!r} names no registry", hint=_FORM)
    if not (_HOST.fullmatch(host) or _HOST_V6.fullmatch(host)):
        raise ReferenceInvalid(f"{host[:200]!r} is not a registry's host name", hint=_FORM)
    if not _NAME.fullmatch(name) or len(text) > 255:
        raise ReferenceInvalid(
            f"{name[:200]!r} is not a repository name",
            hint="up to 255 lower-case letters, digits and '/', with '.', '_', '__' or '-' between them",
        )
    return Repository(host, name)


def parse_reference(text: str) -> Reference:
    """Raises ReferenceInvalid and DigestInvalid."""
    rest, at, digest = text.partition("@")
    host, slash, path = rest.partition("/")
    name, colon, tag = path.partition(":")
    repository = parse_repository(host + slash + name)
    if colon:
        tag = repository.tagged(tag).tag or ""
    return Reference(repository, tag=tag or None, digest=parse_digest(digest) if at else None)


def is_loopback(host: str) -> bool:
    """Whether HOST[:PORT] is this machine, told by its name alone: nothing is looked up."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
