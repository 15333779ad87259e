"""Blobs: look for, send, mount from a neighbour, fetch (distribution-spec, "Pushing blobs" and "Pulling blobs")."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from builder.image.digests import CHUNK, chunks_of, digest_of
from builder.image.documents import Descriptor
from builder.registry.errors import CHANGED, AnswerUnexpected, BlobUnknown, DigestMismatch, RegistryUnavailable
from builder.registry.reference import Repository
from builder.registry.session import Body, Session


class Blobs:
    def __init__(self, session: Session) -> None:
        self._session = session

    def size(self, repository: Repository, digest: str) -> int | None:
        """The size in bytes of a blob the repository holds, or None."""
        path = f"{repository.name}/blobs/{digest}"
        response, _ = self._session.fetch("HEAD", repository, path, accept=(200, 404))
        if response.status_code == 404:
            return None
        length = response.headers.get("content-length", "")
        if not length.isdigit():
            raise AnswerUnexpected(f"{repository} does not say how large the blob {digest} is")
        return int(length)

    def holds(self, repository: Repository, descriptor: Descriptor) -> bool:
        """Whether a blob need not be sent.

        A registry that fails at the question is told no: after its disk was full, docker-registry has empty links
        where it failed, answers 500 about them for ever, and is whole again once the blob comes anew.
        """
        path = f"{repository.name}/blobs/{descriptor.digest}"
        response, _ = self._session.fetch("HEAD", repository, path, accept=(200, 404, 500))
        return response.status_code == 200 and response.headers.get("content-length") == str(descriptor.size)

    def push(self, repository: Repository, source: Path | bytes, descriptor: Descriptor) -> None:
        """Send a blob unless it is there already. The registry checks that `source` is what `descriptor` says."""
        if self.holds(repository, descriptor):
            return

        def attempt() -> None:
            location = self._start(repository)
            self._finish(repository, location, source, descriptor)

        self._session.retrying(repository.registry, attempt)
        if self.size(repository, descriptor.digest) != descriptor.size:
            raise DigestMismatch(f"{repository} took the blob {descriptor.digest} and does not hold it in full")

    def push_bytes(self, repository: Repository, data: bytes, media_type: str) -> Descriptor:
        descriptor = Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))
        self.push(repository, data, descriptor)
        return descriptor

    def mount(self, repository: Repository, digest: str, source: Repository) -> bool:
        """Take a blob over from another repository of the same registry. False if it has to be sent after all."""
        path = f"{repository.name}/blobs/uploads/?mount={digest}&from={source.name}"
        response, _ = self._session.fetch("POST", repository, path, accept=(201, 202, 404), push=True)
        if response.status_code == 201:
            return True
        if response.status_code == 202 and "location" in response.headers:
            # The registry opened an upload in place of the mount; close it rather than leave it lying about.
            location = response.headers["location"]
            self._session.fetch("DELETE", repository, location, accept=(200, 202, 204, 404, 405), push=True)
        return False

    def fetch(self, repository: Repository, descriptor: Descriptor, *, limit: int = 16 * 1024 * 1024) -> bytes:
        """A small blob, verified. Raises BlobUnknown and DigestMismatch."""
        if descriptor.size > limit:
            raise AnswerUnexpected(
                f"the blob {descriptor.digest} has {descriptor.size} bytes; {limit} are read at once"
            )

        def attempt() -> bytes:
            return b"".join(self._verified(repository, descriptor))

        return self._session.retrying(repository.registry, attempt)

    def pull(self, repository: Repository, descriptor: Descriptor, destination: Path) -> None:
        """Fetch a blob into a new file, verified by digest and size. A failure leaves no file.

        Raises BlobUnknown and DigestMismatch.
        """

        def attempt() -> None:
            with destination.open("wb") as out:
                for chunk in self._verified(repository, descriptor):
                    out.write(chunk)

        try:
            self._session.retrying(repository.registry, attempt)
        except BaseException:
            destination.unlink(missing_ok=True)
            raise

    def verify(self, repository: Repository, descriptor: Descriptor, check: Callable[[], None]) -> None:
        """Read a blob and keep nothing of it. Raises BlobUnknown and DigestMismatch, and what `check` raises, which is
        called for each chunk."""

        def attempt() -> None:
            for _ in self._verified(repository, descriptor):
                check()

        self._session.retrying(repository.registry, attempt)

    def delete(self, repository: Repository, digest: str) -> bool:
        """Take a blob out of a repository. False if it was not there. Raises AnswerUnexpected if none can be."""
        path = f"{repository.name}/blobs/{digest}"
        response, _ = self._session.fetch("DELETE", repository, path, accept=(202, 404, 405), push=True)
        if response.status_code == 405:
            raise AnswerUnexpected(f"{repository} does not delete blobs", hint="allow deletion in the registry")
        return response.status_code == 202

    def _verified(self, repository: Repository, descriptor: Descriptor) -> Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        deadline = time.monotonic() + self._session.access.transfer_seconds
        path = f"{repository.name}/blobs/{descriptor.digest}"
        with self._session.exchange("GET", repository, path, accept=(200, 404)) as response:
            if response.status_code == 404:
                raise BlobUnknown(f"{repository} holds no blob {descriptor.digest}")
            for chunk in response.iter_raw(CHUNK):
                size += len(chunk)
                if size > descriptor.size:
                    break
                digest.update(chunk)
                yield chunk
                _check_time(deadline, repository)
        if size < descriptor.size:
            raise httpx.ReadError(f"the blob {descriptor.digest} ended after {size} of {descriptor.size} bytes")
        if size > descriptor.size or f"sha256:{digest.hexdigest()}" != descriptor.digest:
            raise DigestMismatch(f"{repository} gave other content for the blob {descriptor.digest}", hint=CHANGED)

    def _start(self, repository: Repository) -> str:
        path = f"{repository.name}/blobs/uploads/"
        with self._session.exchange("POST", repository, path, accept=(202,), push=True) as response:
            if "location" not in response.headers:
                raise AnswerUnexpected(f"{repository} opened an upload without saying where")
            return str(response.headers["location"])

    def _finish(self, repository: Repository, location: str, source: Path | bytes, descriptor: Descriptor) -> None:
        separator = "&" if "?" in location else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
        with self._session.exchange(
            "PUT",
            repository,
            f"{location}{separator}digest={descriptor.digest}",
            headers=headers,
            body=self._body(source, repository),
            accept=(201, 204),
            push=True,
        ) as response:
            stored = response.headers.get("docker-content-digest", descriptor.digest)
        if stored != descriptor.digest:
            raise DigestMismatch(f"{repository} stored the blob {descriptor.digest} as {stored[:80]!r}")

    def _body(self, source: Path | bytes, repository: Repository) -> Body:
        if isinstance(source, bytes):
            return source
        deadline = time.monotonic() + self._session.access.transfer_seconds

        def chunks() -> Iterator[bytes]:
            with source.open("rb") as stream:
                for chunk in chunks_of(stream):
                    _check_time(deadline, repository)
                    yield chunk

        return chunks


def _check_time(deadline: float, repository: Repository) -> None:
    if time.monotonic() > deadline:
        raise RegistryUnavailable(f"a blob's transfer to or from {repository} takes longer than is allowed")
