"""Evidence of a released image from the service's own database, to be verified by the service itself."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from builder.errors import Broken, Unavailable
from builder.ledger import serving
from builder.ledger.checkpoints import CheckpointUnknown
from builder.ledger.serving import EntryUnknown
from builder.store import attachments
from builder.store.attachments import Kind
from builder.store.database import Database
from builder.store.schema import Record, Release
from builder.verification.evidence import Bundles, LedgerEvidence

SIGNED = (
    Kind.PROVENANCE, Kind.SIGNATURE, Kind.TESTS, Kind.SCAN_ATTESTATION, Kind.VERDICT, Kind.SBOM_ATTESTATION,
    Kind.REFERENCES, Kind.REPRODUCTION,
)  # fmt: skip
# Kept under the names that the provenance has for them.
_DOCUMENTS = (Kind.INVENTORY, Kind.CYCLONEDX, Kind.SPDX, Kind.SCAN, Kind.LOG)


class ReleaseNotInLedger(Unavailable):
    slug = "release-not-in-ledger"
    title = "The ledger's newest checkpoint does not hold the release yet"


@dataclass(frozen=True)
class StoredEvidence:
    """Of the image of a release: every bundle that is kept of it, of other releases of the same image too."""

    database: Database
    release: Release
    manifest_from: str | None = None

    @property
    def image(self) -> str:
        return f"{self.release.registry_host}/{self.release.repository}@{self.release.digest}"

    @property
    def digest(self) -> str:
        return self.release.digest

    def bundles(self) -> Bundles:
        with self.database.read() as session:
            found = attachments.signed_of_image(session, self.digest, SIGNED)
            return Bundles(tuple(attachments.content(session, one) for one in found))

    def ledger(self) -> LedgerEvidence | None:
        with self.database.read() as session:
            try:
                return ledger_evidence(session, self.release)
            except ReleaseNotInLedger:
                return None

    def documents(self) -> dict[str, str]:
        with self.database.read() as session:
            found = ((kind, attachments.find(session, self.release.build_id, kind)) for kind in _DOCUMENTS)
            return {kind.value: one.blob_digest for kind, one in found if one is not None}


def ledger_evidence(session: Session, release: Release) -> LedgerEvidence:
    """Record, entry, and proof by the newest checkpoint. Raises ReleaseNotInLedger."""
    record = session.scalars(select(Record).where(Record.build_id == release.build_id)).one_or_none()
    if record is None:
        raise Broken(f"release {release.build_id} has no record")
    try:
        index = serving.index_of(session, record.digest)
        entry, proof = serving.entry_at(session, index).entry, serving.signed_proof(session, index)
    except (CheckpointUnknown, EntryUnknown) as error:
        raise ReleaseNotInLedger(
            f"release {release.build_id} is recorded, and the ledger not signed since", hint="ask again in a moment"
        ) from error
    return LedgerEvidence(record.body, entry or b"", proof.encode())
