"""Manifests and tags (distribution-spec, "Pulling manifests", "Pushing manifests", "Content discovery").

A digest is what counts. A tag is looked up once and gives a digest; what was written is read back before it is
believed.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from builder.image.digests import digest_of
from builder.image.documents import INDEX_TYPES, MANIFEST_TYPES, Descriptor, media_type_of
from builder.registry.errors import CHANGED, AnswerUnexpected, DigestMismatch, ManifestUnknown
from builder.registry.reference import Reference, Repository
from builder.registry.session import Session

_ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
_MAX_PAGES = 1000


@dataclass(frozen=True)
class FetchedManifest:
    """A manifest or index as the registry holds it, byte for byte. `digest` was computed here."""

    repository: Repository
    digest: str
    media_type: str
    data: bytes

    def descriptor(self) -> Descriptor:
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.data))


class _Tags(BaseModel):
    tags: list[str] | None = None


class Manifests:
    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, reference: Reference) -> FetchedManifest:
        """Raises ManifestUnknown, and DigestMismatch if the content is not what the digest or the registry says."""
        found = self.find(reference)
        if found is None:
            raise ManifestUnknown(f"{reference} is not in the registry", hint="check the name, the tag and the digest")
        return found

    def find(self, reference: Reference) -> FetchedManifest | None:
        """Like `get`, but None for what is not there."""
        repository = reference.repository
        path = f"{repository.name}/manifests/{reference.path}"
        response, data = self._session.fetch("GET", repository, path, headers={"Accept": _ACCEPT}, accept=(200, 404))
        if response.status_code == 404:
            return None
        digest = digest_of(data)
        expected = reference.digest or response.headers.get("docker-content-digest", digest)
        if digest != expected:
            raise DigestMismatch(f"{repository} gave {digest} where {expected[:80]!r} was asked for", hint=CHANGED)
        return FetchedManifest(repository, digest, media_type_of(data), data)

    def put(self, reference: Reference, data: bytes) -> PutResult:
        """Store a manifest by digest or under a tag, and read it back. Raises DigestMismatch if it is not there."""
        repository = reference.repository
        digest = digest_of(data)
        if reference.digest not in (None, digest):
            raise DigestMismatch(f"the manifest to store has the digest {digest}, not {reference.digest}")
        headers = {"Content-Type": media_type_of(data)}
        path = f"{repository.name}/manifests/{reference.tag or digest}"
        response, _ = self._session.fetch("PUT", repository, path, headers=headers, body=data, accept=(201,), push=True)
        stored = self.find(Reference(repository, tag=reference.tag, digest=None if reference.tag else digest))
        if stored is None or stored.data != data:
            raise DigestMismatch(
                f"{reference} was stored, but the registry now gives {stored.digest if stored else 'nothing'} for it",
                hint="somebody else may write the same tag",
            )
        return PutResult(digest, subject=response.headers.get("oci-subject"))

    def delete(self, reference: Reference) -> bool:
        """Delete by digest (a tag is resolved first). False if there was nothing."""
        repository = reference.repository
        digest = reference.digest
        if digest is None:
            found = self.find(reference)
            if found is None:
                return False
            digest = found.digest
        path = f"{repository.name}/manifests/{digest}"
        response, _ = self._session.fetch("DELETE", repository, path, accept=(202, 404, 405), push=True)
        if response.status_code == 405:
            raise AnswerUnexpected(f"{repository} does not delete manifests", hint="allow deletion in the registry")
        return response.status_code == 202

    def tags(self, repository: Repository) -> list[str]:
        """All tags, in the registry's order; none for a repository it does not know."""
        found: list[str] = []
        path: str | None = f"{repository.name}/tags/list"
        for _ in range(_MAX_PAGES):
            if path is None:
                return found
            response, data = self._session.fetch("GET", repository, path, accept=(200, 404))
            if response.status_code == 404:
                return found
            try:
                found += _Tags.model_validate_json(data).tags or []
            except ValidationError as error:
                raise AnswerUnexpected(f"{repository} gave a list of tags that cannot be read") from error
            path = response.links.get("next", {}).get("url")
        raise AnswerUnexpected(f"{repository} gives lists of tags without an end")


@dataclass(frozen=True)
class PutResult:
    """`subject` is the digest in the answer's OCI-Subject header: the registry keeps the list of referrers itself."""

    digest: str
    subject: str | None
