"""A Trivy database as an OCI artifact, the form in which Trivy pulls one from a registry (its `--db-repository`)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b"{}"
TAG = "2"  # the schema version, which Trivy asks for when no tag is given
_CONFIG_TYPE = "application/vnd.aquasec.trivy.config.v1+json"
_LAYER_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"


@dataclass(frozen=True)
class OciArtifact:
    """What to push, in this order: each of `blobs` (by `sha256:<hex>`), then `manifest` under `tag`."""

    blobs: dict[str, bytes]
    manifest: bytes
    media_type: str = MANIFEST_TYPE
    tag: str = TAG


def database_artifact(archive: bytes) -> OciArtifact:
    """An OCI image manifest whose single layer is `archive`, a tar.gz with trivy.db and metadata.json."""
    blobs = {_digest(blob): blob for blob in (CONFIG, archive)}
    return OciArtifact(blobs, database_manifest(_digest(archive), len(archive)))


def database_manifest(digest: str, size: int) -> bytes:
    """The manifest of an artifact with the config `CONFIG` and one layer, an archive with that digest and size."""
    layer = {"mediaType": _LAYER_TYPE, "digest": digest, "size": size}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": _CONFIG_TYPE,
        "config": {"mediaType": _CONFIG_TYPE, "digest": _digest(CONFIG), "size": len(CONFIG)},
        "layers": [{**layer, "annotations": {"org.opencontainers.image.title": "db.tar.gz"}}],
    }
    return json.dumps(manifest, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"
