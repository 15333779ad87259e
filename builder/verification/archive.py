"""Evidence from the archive that `goldsmith bundle` writes: one file, and nobody is asked."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import Rejected
from builder.image.digests import digest_of
from builder.image.documents import parse_manifest
from builder.verification.evidence import Bundles, LedgerEvidence

_MIB = 1024 * 1024
_MOST_MEMBERS = 1000
_MOST_KEPT = 256 * _MIB
_MOST_OF_ONE = 64 * _MIB
_MOST_OF_SMALL = 4 * _MIB
_CHUNK = _MIB
_SUMS, _MANIFEST, _CONFIG = "SHA256SUMS", "manifest.json", "config.json"
_RECORD, _ENTRY, _PROOF = "record.json", "ledger/entry.json", "ledger/proof.tlog-proof"
# What is read whole; of everything else only the digest is taken.
_KEPT = re.compile(rf"{_SUMS}|{_MANIFEST}|{_CONFIG}|{_RECORD}|{_ENTRY}|{_PROOF}|bundles/[a-z0-9-]+\.json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_SUM = re.compile(r"([0-9a-f]{64})  (.+)")
# Members, by the names that the provenance has for what they hold.
_DOCUMENTS = {
    "inventory.jsonl.zst": "inventory",
    "sbom.cdx.json": "sbom-cyclonedx",
    "sbom.spdx.json": "sbom-spdx",
    "scan.json": "scan",
    "log.jsonl": "log",
}


class ArchiveUnreadable(Rejected):
    slug = "evidence-archive-unreadable"
    title = "The file is no archive of evidence"


class ArchiveAltered(Rejected):
    """What is in the archive does not belong together: it was damaged or altered since it was written."""

    slug = "evidence-archive-altered"
    title = "The archive of evidence is not whole"


@dataclass(frozen=True)
class ArchiveEvidence:
    """`contents` by member, those that are read whole; `digests` of all, `sha256:…`."""

    path: Path
    contents: dict[str, bytes] = field(repr=False)
    digests: dict[str, str] = field(repr=False)

    @property
    def image(self) -> str:
        return self.digest

    @property
    def digest(self) -> str:
        return self.digests[_MANIFEST]

    @property
    def manifest_from(self) -> str:
        return str(self.path)

    def bundles(self) -> Bundles:
        return Bundles(tuple(self.contents[name] for name in sorted(self.contents) if name.startswith("bundles/")))

    def ledger(self) -> LedgerEvidence | None:
        record, entry, proof = (self.contents.get(name) for name in (_RECORD, _ENTRY, _PROOF))
        return None if record is None or entry is None or proof is None else LedgerEvidence(record, entry, proof)

    def documents(self) -> dict[str, str]:
        return {told: self.digests[name] for name, told in _DOCUMENTS.items() if name in self.digests}


def read_archive(path: Path) -> ArchiveEvidence:
    """Read it once, from its beginning; nothing is unpacked. Every member must be as SHA256SUMS in it says.

    Raises ArchiveUnreadable for what is none, ArchiveAltered for what is damaged.
    """
    contents: dict[str, bytes] = {}
    digests: dict[str, str] = {}
    try:
        with tarfile.open(path, "r|", tarinfo=_PlainMember) as archive:
            for name, content, digest in _members(archive, path):
                if name in digests:
                    raise ArchiveUnreadable(f"{path} has {name} twice")
                digests[name] = digest
                if content is not None:
                    contents[name] = content
                if sum(map(len, contents.values())) > _MOST_KEPT:
                    raise ArchiveUnreadable(f"{path} has more than {_MOST_KEPT // _MIB} MiB of bundles and documents")
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise ArchiveUnreadable(
            f"{path} is no tar archive: {error}", hint="`goldsmith bundle DIGEST -o FILE` writes one"
        ) from error
    except OSError as error:
        raise ArchiveUnreadable(f"{path} cannot be read: {error.strerror or error}") from error
    for name in (_MANIFEST, _SUMS):
        if name not in contents:
            raise ArchiveUnreadable(f"{path} has no {name}", hint="`goldsmith bundle DIGEST -o FILE` writes an archive")
    _require_sums(path, contents[_SUMS], {name: digest for name, digest in digests.items() if name != _SUMS})
    _require_config(path, contents[_MANIFEST], digests.get(_CONFIG))
    return ArchiveEvidence(path, contents, digests)


class _PlainMember(tarfile.TarInfo):
    """Refuses links, devices, holes and headers that extend others before tarfile reads what they claim to have."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise _odd(self.name)
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


def _odd(name: str) -> ArchiveUnreadable:
    return ArchiveUnreadable(f"the archive has {name[:100]!r}, which no archive of evidence has")


def _members(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[str, bytes | None, str]]:
    """Name, content if it is to be kept, and digest of each."""
    for number, member in enumerate(archive):
        if number == _MOST_MEMBERS:
            raise ArchiveUnreadable(f"{path} has more than {_MOST_MEMBERS} members")
        if not _NAME.fullmatch(member.name):
            raise _odd(member.name)
        kept = _KEPT.fullmatch(member.name) is not None
        most = _MOST_OF_ONE if member.name == _RECORD or member.name.startswith("bundles/") else _MOST_OF_SMALL
        if kept and member.size > most:
            raise ArchiveUnreadable(f"{path}: {member.name} is larger than {most // _MIB} MiB")
        stream, hashed, chunks = archive.extractfile(member), hashlib.sha256(), []
        assert stream is not None, "a regular file has content"
        while chunk := stream.read(_CHUNK):
            hashed.update(chunk)
            if kept:
                chunks.append(chunk)
        yield member.name, b"".join(chunks) if kept else None, f"sha256:{hashed.hexdigest()}"


def _require_sums(path: Path, sums: bytes, found: dict[str, str]) -> None:
    told: dict[str, str] = {}
    if not sums.endswith(b"\n"):
        raise ArchiveAltered(f"{path}: {_SUMS} does not end with a line")
    for line in sums[:-1].decode("utf-8", "replace").split("\n"):
        match = _SUM.fullmatch(line)
        if match is None or match[2] in told:
            raise ArchiveAltered(f"{path}: {_SUMS} has a line that is not of its form: {line[:100]!r}")
        told[match[2]] = f"sha256:{match[1]}"
    for name in sorted(told.keys() | found.keys()):
        if name not in found:
            raise ArchiveAltered(f"{path} lacks {name}, which {_SUMS} names")
        if name not in told:
            raise ArchiveAltered(f"{path} has {name}, which {_SUMS} does not name")
        if told[name] != found[name]:
            raise ArchiveAltered(f"{path}: {name} is {found[name]}; {_SUMS} says {told[name]}")


def _require_config(path: Path, manifest: bytes, config: str | None) -> None:
    named = parse_manifest(manifest).config.digest
    if config is not None and config != named:
        raise ArchiveAltered(f"{path}: {_CONFIG} is {config}; the manifest {digest_of(manifest)} names {named}")
