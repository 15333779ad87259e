"""Containers of a Docker engine as subjects: which image one was made from, and its file system as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import docker
import docker.errors
import requests
from urllib3.exceptions import HTTPError

from builder.engine.faults import EngineUnavailable
from builder.errors import Rejected
from builder.image.digests import Readable
from builder.image.tarstream import ChunkStream

_CHUNK = 1024 * 1024


class ContainerUnknown(Rejected):
    slug = "container-unknown"
    title = "The engine has no such container"
    status = 404


@dataclass(frozen=True)
class Container:
    """`id` is the full container id, `image_id` the digest of the image's config, `repo_digests` HOST/NAME@DIGEST."""

    id: str
    name: str
    image_id: str
    repo_digests: tuple[str, ...]
    state: str


def find_container(engine: docker.DockerClient, name_or_id: str) -> Container:
    """Raises ContainerUnknown and EngineUnavailable."""
    try:
        found = engine.containers.get(name_or_id)
        attributes = found.attrs
        image = engine.images.get(attributes["Image"]).attrs
    except docker.errors.NotFound as error:
        raise ContainerUnknown(f"the engine has no container {name_or_id[:100]!r}, or no longer its image") from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineUnavailable(f"the container engine does not answer: {error}") from error
    return Container(
        id=attributes["Id"],
        name=attributes["Name"].lstrip("/"),
        image_id=attributes["Image"],
        repo_digests=tuple(image.get("RepoDigests") or ()),
        state=attributes["State"]["Status"],
    )


def export_container(engine: docker.DockerClient, container: Container) -> Readable:
    """The container's file system as a tar stream: its layers as they are, without what is mounted over them.

    A running container goes on while it is read; pause it first if the moment matters. Reading raises EngineUnavailable
    if the engine stops answering.
    """

    def chunks() -> Iterator[bytes]:
        try:
            yield from engine.api.export(container.id, chunk_size=_CHUNK)
        except docker.errors.NotFound as error:
            raise ContainerUnknown(f"the engine no longer has the container {container.name!r}") from error
        except (docker.errors.DockerException, requests.RequestException, HTTPError) as error:
            raise EngineUnavailable(f"the container engine stopped answering during the export: {error}") from error

    return ChunkStream(chunks())
