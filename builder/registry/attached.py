"""What is attached to an image, by type. Anybody who may push can attach anything: one bad one hides no good one."""

from __future__ import annotations

from dataclasses import dataclass

from builder.errors import GoldsmithError, Unavailable
from builder.image.documents import Descriptor, parse_manifest
from builder.registry.client import RegistryClient
from builder.registry.reference import Repository

_MAX_ARTIFACTS = 100


@dataclass(frozen=True)
class Attached:
    """The blobs of the artifacts that could be read; `unreadable` says why others could not."""

    blobs: tuple[Descriptor, ...]
    unreadable: tuple[str, ...] = ()


def attached(registry: RegistryClient, repository: Repository, digest: str, artifact_type: str) -> Attached:
    """The one blob of each artifact of a type. None of it is believed: whose it claims to be decides nothing.

    Raises RegistryUnavailable.
    """
    # A list may leave the type out; the manifest has it.
    referrers = [one for one in registry.referrers.of(repository, digest) if one.artifact_type in (None, artifact_type)]
    blobs: list[Descriptor] = []
    unreadable: list[str] = []
    for referrer in referrers[:_MAX_ARTIFACTS]:
        try:
            manifest = parse_manifest(registry.manifests.get(repository.at(referrer.digest)).data)
        except Unavailable:
            raise
        except GoldsmithError as error:
            unreadable.append(f"referrer {referrer.digest}: {error.detail}")
            continue
        if manifest.artifact_type == artifact_type and len(manifest.layers) == 1:
            blobs.append(manifest.layers[0])
    if len(referrers) > _MAX_ARTIFACTS:
        unreadable.append(f"{len(referrers) - _MAX_ARTIFACTS} more referrers were not looked at")
    return Attached(tuple(blobs), tuple(unreadable))
