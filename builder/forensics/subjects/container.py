"""Containers of a Docker Engine as subjects: all that the engine exports of one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
from urllib3.exceptions import HTTPError

from builder.engine.faults import EngineUnavailable
from builder.errors import Rejected
from builder.forensics.subjects.archive import contents_of_archive, sorted_entries
from builder.forensics.subjects.subject import Described, SubjectKind
from builder.forensics.subjects.upper import OwnLayer
from builder.image.digests import Readable
from builder.image.entry import Entry
from builder.image.tarstream import ChunkStream

_CHUNK = 1024 * 1024


class ContainerUnknown(Rejected):
    slug = "container-unknown"
    title = "The engine has no such container"
    status = 404


@dataclass(frozen=True)
class Container:
    """`id` is the full container id, `image_id` the digest of the image's config, `repo_digests` HOST/NAME@DIGEST.

    `inspected` is the engine's inspect document.
    """

    id: str
    name: str
    image_id: str
    repo_digests: tuple[str, ...]
    state: str
    inspected: dict[str, Any] = field(repr=False)

    @property
    def mounts(self) -> tuple[tuple[str, str], ...]:
        """Where something is mounted over the container's own file system, and of which kind."""
        listed = {mount["Destination"]: mount["Type"] for mount in self.inspected.get("Mounts") or ()}
        # The engine does not list what --tmpfs mounts.
        temporary = dict.fromkeys(self.inspected.get("HostConfig", {}).get("Tmpfs") or (), "tmpfs")
        return tuple(sorted((temporary | listed).items()))

    @property
    def described(self) -> Described:
        return Described(
            kind=SubjectKind.CONTAINER,
            name=self.name,
            id=self.id,
            image_digests=tuple(sorted({name.rpartition("@")[2] for name in self.repo_digests})),
            state=self.state,
            mounts=tuple(f"{destination} ({kind})" for destination, kind in self.mounts),
        )


class ContainerSubject:
    """A container by its export: its layers as they are, without what is mounted over them.

    A running container goes on while it is read; pause it first if the moment matters.
    """

    def __init__(self, engine: docker.DockerClient, container: Container) -> None:
        self._engine = engine
        self._container = container
        self._own_layer = OwnLayer(container.inspected)

    @property
    def described(self) -> Described:
        return self._container.described

    @property
    def configuration(self) -> dict[str, Any]:
        return self._container.inspected

    @property
    def unproven(self) -> tuple[str, ...]:
        return (*(f"what is mounted at {mount}" for mount in self.described.mounts), *self._own_layer.unproven)

    def looked_at(self, path: bytes) -> bool:  # noqa: ARG002
        return True

    @contextmanager
    def entries(self, directory: Path) -> Iterator[Iterator[Entry]]:
        """Raises ContainerUnknown, EngineUnavailable, ArchiveInvalid and ArchiveTooLarge."""
        with sorted_entries(export_container(self._engine, self._container), directory) as entries:
            yield self._own_layer.added_to(entries)

    def contents(self, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        yield from contents_of_archive(lambda: export_container(self._engine, self._container), paths)


@contextmanager
def engine_at(url: str) -> Iterator[docker.DockerClient]:
    """Raises EngineUnavailable."""
    try:
        engine = docker.DockerClient(base_url=url, timeout=120, version="auto")
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineUnavailable(
            f"no Docker Engine answers at {url}", hint="start it, or name another with --engine"
        ) from error
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def engine_asked() -> Iterator[None]:
    """Around calls to the SDK. Raises EngineUnavailable."""
    try:
        yield
    except (docker.errors.DockerException, requests.RequestException, HTTPError) as error:
        raise EngineUnavailable(f"the container engine does not answer: {error}") from error


def find_container(engine: docker.DockerClient, name_or_id: str) -> Container:
    """Raises ContainerUnknown and EngineUnavailable."""
    with engine_asked():
        try:
            attributes = engine.api.inspect_container(name_or_id)
        except docker.errors.NotFound as error:
            raise ContainerUnknown(
                f"the engine has no container {name_or_id[:100]!r}", hint="`docker ps --all` lists its containers"
            ) from error
        try:
            image: dict[str, Any] = engine.images.get(attributes["Image"]).attrs
        except docker.errors.NotFound:
            image = {}  # deleted by force while containers of it were there
    return Container(
        id=attributes["Id"],
        name=attributes["Name"].lstrip("/"),
        image_id=attributes["Image"],
        repo_digests=tuple(image.get("RepoDigests") or ()),
        state=attributes["State"]["Status"],
        inspected=attributes,
    )


def export_container(engine: docker.DockerClient, container: Container) -> Readable:
    """The container's file system as a tar stream. Reading raises ContainerUnknown and EngineUnavailable."""

    def chunks() -> Iterator[bytes]:
        with engine_asked():
            try:
                yield from engine.api.export(container.id, chunk_size=_CHUNK)
            except docker.errors.NotFound as error:
                raise ContainerUnknown(f"the engine no longer has the container {container.name!r}") from error

    return ChunkStream(chunks())
