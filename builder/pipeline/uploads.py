"""Uploads to compare: what they may be, and how they wait in the registry for a worker, named by their digest."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from builder.forensics.subjects.subject import SubjectKind
from builder.image.documents import Descriptor
from builder.pipeline.evidence import ComparedSubject
from builder.pipeline.services import Services
from builder.registry.client import RegistryClient

REPOSITORY: Final = "comparisons"

# How it is compressed shows from its first bytes; the types differ for whoever reads them.
_INVENTORY = "application/vnd.goldsmith.inventory.v1"
_TAR = "application/x-tar"
UPLOADED: Final = {
    media_type + suffix: kind
    for media_type, kind in ((_INVENTORY, SubjectKind.INVENTORY), (_TAR, SubjectKind.ARCHIVE))
    for suffix in ("", "+gzip", "+zstd")
}
_STAGED = "application/octet-stream"


def stage_upload(services: Services, registry: RegistryClient, file: Path, subject: ComparedSubject) -> None:
    """Raises what the registry client raises."""
    registry.blobs.push(services.staging(REPOSITORY), file, _blob(subject))


def fetch_upload(services: Services, subject: ComparedSubject, destination: Path) -> None:
    """Raises BlobUnknown, and what else the registry client raises."""
    services.registry.blobs.pull(services.staging(REPOSITORY), _blob(subject), destination)


def _blob(subject: ComparedSubject) -> Descriptor:
    assert subject.size is not None, "every upload has been counted"
    return Descriptor(media_type=_STAGED, digest=subject.digest, size=subject.size)
