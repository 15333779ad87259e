"""Artifacts that go beside an image: a manifest with one blob and a subject (image-spec, manifest.md)."""

from __future__ import annotations

from collections.abc import Mapping

from builder.image.documents import EMPTY_DESCRIPTOR, Descriptor, Manifest

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def artifact_manifest(
    subject: Descriptor, blob: Descriptor, *, artifact_type: str, annotations: Mapping[str, str] | None = None
) -> Manifest:
    """`subject` is the image's descriptor; only its media type, digest and size are kept."""
    return Manifest(
        artifact_type=artifact_type,
        config=EMPTY_DESCRIPTOR,
        layers=(Descriptor(media_type=blob.media_type, digest=blob.digest, size=blob.size),),
        subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
        annotations=dict(annotations) if annotations else None,
    )


def bundle_manifest(subject: Descriptor, blob: Descriptor, *, predicate_type: str, created: str) -> Manifest:
    """The artifact that holds a Sigstore bundle, as cosign looks for it. `created` is RFC 3339."""
    return artifact_manifest(
        subject,
        blob,
        artifact_type=BUNDLE,
        annotations={
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": predicate_type,
            "org.opencontainers.image.created": created,
        },
    )
