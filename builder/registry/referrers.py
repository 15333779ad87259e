"""Referrers: artifacts that point at an image, such as its signature (distribution-spec, "Listing Referrers").

A registry without the referrers API keeps the list as an index under the tag `sha256-<hex>`, and clients write it.
Reading, changing and writing it back loses entries when two do it at once, and registries ignore conditional requests;
so here it happens under a lock per image, and is read back and repaired.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from builder.image.digests import digest_of, hex_of
from builder.image.documents import Descriptor, Index, Manifest, parse_index
from builder.locking import exclusive
from builder.registry.errors import AnswerUnexpected, DigestMismatch
from builder.registry.manifests import Manifests
from builder.registry.reference import Reference, Repository
from builder.registry.session import Session

_MAX_PAGES = 1000
_REPAIRS = 5


class Referrers:
    """`lock_directory` is shared by all processes that attach to the same registry."""

    def __init__(self, session: Session, manifests: Manifests, lock_directory: Path) -> None:
        self._session = session
        self._manifests = manifests
        self._locks = lock_directory

    def of(self, repository: Repository, digest: str, *, artifact_type: str | None = None) -> list[Descriptor]:
        """The referrers of an image or index, by the API where there is one and by the tag otherwise."""
        found = self._by_api(repository, digest)
        if found is None:
            found = self._by_tag(repository, digest)
        return [one for one in found if artifact_type in (None, one.artifact_type)]

    def attach(self, repository: Repository, artifact: Manifest) -> Descriptor:
        """Store an artifact manifest whose blobs are there already, and make sure that it is listed for its subject.

        Attaching the same artifact again changes nothing. Raises DigestMismatch if it is not listed in the end.
        """
        (attached,) = self.attach_all(repository, [artifact])
        return attached

    def attach_all(self, repository: Repository, artifacts: Sequence[Manifest]) -> list[Descriptor]:
        """`attach` for several artifacts of one subject, which the list of referrers gets all at once."""
        (subject,) = {artifact.subject.digest for artifact in artifacts if artifact.subject is not None}
        descriptors = [_listed(artifact) for artifact in artifacts]
        unlisted = []
        for artifact, descriptor in zip(artifacts, descriptors, strict=True):
            stored = self._manifests.put(repository.at(descriptor.digest), artifact.to_bytes())
            if stored.subject != subject:
                unlisted.append(descriptor)
        if unlisted:
            with self._lock(repository, subject):
                self._list_under_tag(repository, subject, unlisted)
        there = {one.digest for one in self.of(repository, subject)}
        for descriptor in descriptors:
            if descriptor.digest not in there:
                raise DigestMismatch(f"{repository} took {descriptor.digest} and does not list it for {subject}")
        return descriptors

    def remove(self, repository: Repository, digest: str) -> int:
        """Delete all referrers of an image, and their list. Returns how many there were."""
        with self._lock(repository, digest):
            found = self.of(repository, digest)
            for one in found:
                self._manifests.delete(repository.at(one.digest))
            self._manifests.delete(_tag(repository, digest))
        return len(found)

    def detach(self, repository: Repository, digest: str, artifacts: Collection[str]) -> None:
        """Delete some of the referrers of an image, by their digests, and take them off its list."""
        tag = _tag(repository, digest)
        with self._lock(repository, digest):
            listed = self._manifests.find(tag)
            if listed is not None:
                kept = tuple(one for one in parse_index(listed.data).manifests if one.digest not in artifacts)
                self._manifests.put(tag, Index(manifests=kept).to_bytes())
            for artifact in artifacts:
                self._manifests.delete(repository.at(artifact))

    def _by_api(self, repository: Repository, digest: str) -> list[Descriptor] | None:
        found: list[Descriptor] = []
        path: str | None = f"{repository.name}/referrers/{digest}"
        for _ in range(_MAX_PAGES):
            if path is None:
                return found
            response, data = self._session.fetch("GET", repository, path, accept=(200, 404))
            if response.status_code == 404:
                return None
            found += parse_index(data).manifests
            path = response.links.get("next", {}).get("url")
        raise AnswerUnexpected(f"{repository} gives lists of referrers without an end")

    def _by_tag(self, repository: Repository, digest: str) -> list[Descriptor]:
        found = self._manifests.find(_tag(repository, digest))
        return list(parse_index(found.data).manifests) if found else []

    def _list_under_tag(self, repository: Repository, subject: str, descriptors: Sequence[Descriptor]) -> None:
        gone: set[str] = set()
        for _ in range(_REPAIRS):
            listed = [one for one in self._by_tag(repository, subject) if one.digest not in gone]
            there = {one.digest for one in listed}
            new = [one for one in descriptors if one.digest not in there]
            if not new:
                return
            # Another machine may write between put's write and its reading back; then look again and repair.
            try:
                self._manifests.put(_tag(repository, subject), Index(manifests=(*listed, *new)).to_bytes())
            except DigestMismatch:
                continue
            except AnswerUnexpected:
                # A list that names what was deleted since is refused: without that, it is taken.
                missing = {one.digest for one in listed if self._manifests.find(repository.at(one.digest)) is None}
                if not missing:
                    raise
                gone |= missing
        raise DigestMismatch(
            f"the list of referrers of {subject} in {repository} keeps losing what is attached",
            hint="another writer that does not share the lock directory attaches to the same image",
        )

    def _lock(self, repository: Repository, digest: str) -> AbstractContextManager[None]:
        name = hex_of(digest_of(f"{repository}@{digest}".encode()))
        return exclusive(self._locks / f"referrers-{name}.lock")


def _listed(artifact: Manifest) -> Descriptor:
    return artifact.descriptor().model_copy(
        update={
            "artifact_type": artifact.artifact_type or artifact.config.media_type,
            "annotations": artifact.annotations,
        }
    )


def _tag(repository: Repository, digest: str) -> Reference:
    return repository.tagged(f"sha256-{hex_of(digest)}")
