"""All that is known of a released image in one tar, to be verified years later with stock tools and no service."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import IO

from sqlalchemy.orm import Session

from builder.image.documents import MAX_DOCUMENT, parse_manifest
from builder.pipeline.services import Services
from builder.pipeline.stored_evidence import SIGNED, ledger_evidence
from builder.store import attachments
from builder.store.attachments import Kind
from builder.store.schema import Attachment, Release

_DOCUMENTS = {
    Kind.INVENTORY: "inventory.jsonl.zst",
    Kind.CYCLONEDX: "sbom.cdx.json",
    Kind.SPDX: "sbom.spdx.json",
    Kind.SCAN: "scan.json",
    Kind.LOG: "log.jsonl",
    Kind.FACTS: "facts.json",
}
_SUMS = "SHA256SUMS"


def write_archive(services: Services, release: Release, file: IO[bytes]) -> None:
    """Write the archive; the same evidence gives the same bytes. Raises ReleaseNotInLedger, TrustInvalid, and what the
    registry raises."""
    sums: list[str] = []
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in _members(services, release):
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
            _add(archive, name, content, release)
        _add(archive, _SUMS, "".join(sums).encode(), release)


def _members(services: Services, release: Release) -> Iterator[tuple[str, bytes]]:
    """Names and contents, one after the other: only one is in memory."""
    yield "README.md", _readme(release)
    repository = services.released(release.repository)
    manifest = services.impatient_registry.manifests.get(repository.at(release.digest))
    yield "manifest.json", manifest.data
    config = parse_manifest(manifest.data).config
    yield "config.json", services.impatient_registry.blobs.fetch(repository, config, limit=MAX_DOCUMENT)
    yield from _trust(services)
    with services.database.read() as session:
        signed = attachments.signed_of_image(session, release.digest, SIGNED)
        for name, one in _named([one for one in signed if _belongs(one.build_id, one.kind, release)]):
            yield f"bundles/{name}.json", attachments.content(session, one)
        for kind, name in _DOCUMENTS.items():
            found = attachments.find(session, release.build_id, kind)
            if found is not None:
                yield name, attachments.content(session, found)
        yield from _ledger(session, release)


def _belongs(build_id: str, kind: str, release: Release) -> bool:
    """Of a release the bundles of its own build, and every reproduction of the image."""
    return build_id == release.build_id or kind == Kind.REPRODUCTION


def _named(found: Sequence[Attachment]) -> Iterator[tuple[str, Attachment]]:
    """By kind, and of several of a kind with a number."""
    counted: dict[str, int] = {}
    for one in sorted(found, key=lambda one: one.id):
        number = counted[one.kind] = counted.get(one.kind, 0) + 1
        yield one.kind if number == 1 else f"{one.kind}-{number}", one


def _ledger(session: Session, release: Release) -> Iterator[tuple[str, bytes]]:
    found = ledger_evidence(session, release)
    yield "record.json", found.record
    yield "ledger/entry.json", found.entry
    yield "ledger/proof.tlog-proof", found.proof


def _trust(services: Services) -> Iterator[tuple[str, bytes]]:
    """What a private Sigstore's clients need; everybody has the public one's."""
    path = services.settings.sigstore_trust_config
    if path is None:
        return
    content = path.read_bytes()
    yield "trust_config.json", content
    yield "trusted_root.json", json.dumps(json.loads(content)["trustedRoot"], sort_keys=True).encode()


def _readme(release: Release) -> bytes:
    text = (resources.files("builder.pipeline") / "evidence_archive.md").read_text("utf-8")
    reference = f"{release.registry_host}/{release.repository}@{release.digest}"
    return text.replace("{reference}", reference).replace("{digest}", release.digest).encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes, release: Release) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(content), int(release.released_at), 0o644
    archive.addfile(member, io.BytesIO(content))
