"""The Docker Engine, through its SDK: images in, containers out, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container as DockerContainer

from builder.engine.container import Container
from builder.engine.faults import EngineUnavailable, said, translated
from builder.engine.network import BUILD_LABEL, own_network
from builder.engine.syscalls import build_profile
from builder.errors import Rejected, Unavailable

CACHE_REPOSITORY = "goldsmith-cache"

# What dpkg and maintainer scripts need to own, move and drop privileges on files; nothing that reaches the host.
_CAPABILITIES = [
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
]  # fmt: skip
_IDLE = ["/bin/sh", "-c", "while :; do sleep 3600; done"]


def cache_reference(key: str) -> str:
    """What the engine calls the root that was imported under a key."""
    return f"{CACHE_REPOSITORY}:{key}"


Login = Callable[[str], tuple[str, str] | None]


class BaseUnavailable(Rejected):
    slug = "base-unavailable"
    title = "The base image cannot be had"


class BaseVanished(Unavailable):
    slug = "base-vanished"
    title = "The base image was removed from the engine before the build could use it"


class CommandMissing(Rejected):
    slug = "command-missing"
    title = "The image has nothing to start"


@dataclass(frozen=True)
class Limits:
    """What a container may use."""

    memory_bytes: int
    cpus: float
    processes: int


class Engine:
    """One connection to one engine. `login` answers (user, password) for a registry's host, for that one alone."""

    def __init__(self, url: str, limits: Limits, login: Login = lambda _: None) -> None:
        self._limits = limits
        self._login = login
        try:
            self._client = docker.DockerClient(base_url=url, timeout=120, version="auto")
        except (DockerException, requests.RequestException) as error:
            raise EngineUnavailable(
                f"no Docker Engine answers at {url}", hint="start it, or set GOLDSMITH_ENGINE_URL"
            ) from error

    def close(self) -> None:
        self._client.close()

    def identity(self) -> str:
        """The engine's name and version, for the record."""
        with translated():
            return f"docker {self._client.version()['Version']}"

    def architecture(self) -> str:
        """The engine's architecture in Debian's and OCI's word: amd64, arm64."""
        with translated():
            return str(self._client.version()["Arch"])

    def cached(self, key: str) -> str | None:
        """The image that was imported under a key before, or None."""
        with translated():
            try:
                return str(self._client.images.get(cache_reference(key)).id)
            except ImageNotFound:
                return None

    def import_root(self, tar: Path, key: str) -> str:
        """Make an engine image of a root file system's tar, and keep it under a key. Answers the image's id."""
        with translated(), tar.open("rb") as stream:
            # Chunks, not the file: for a file the SDK announces chunks and then sends none.
            chunks = iter(lambda: stream.read(1024 * 1024), b"")
            self._client.api.import_image_from_stream(chunks, repository=CACHE_REPOSITORY, tag=key)
            return str(self._client.images.get(cache_reference(key)).id)

    def pull(self, reference: str) -> str:
        """Pull an image by digest (`host/repository@sha256:…`) and answer its id. Raises BaseUnavailable."""
        repository, _, digest = reference.partition("@")
        login = self._login(repository.partition("/")[0])
        auth = {"username": login[0], "password": login[1]} if login else {}
        with translated():
            try:
                image = self._client.images.pull(repository, tag=digest, auth_config=auth)
            except (NotFound, ImageNotFound) as error:
                raise BaseUnavailable(
                    f"{reference} cannot be pulled: {said(error)}", hint="check the digest"
                ) from error
            return str(image.id)

    def forget(self, reference: str) -> None:
        """Remove a pulled reference; layers that others use stay."""
        with translated():
            try:
                self._client.images.remove(reference, force=True, noprune=False)
            except (ImageNotFound, NotFound):
                return

    def size(self, reference: str) -> int | None:
        """An image's size in bytes, all its layers counted, or None if there is no such image."""
        with translated():
            try:
                return int(self._client.images.get(reference).attrs["Size"])
            except ImageNotFound:
                return None

    def remove_unused(self, reference: str) -> bool:
        """Remove an image, or what is left of it; False if a container or another image needs it."""
        with translated():
            try:
                self._client.images.remove(reference)
            except NotFound:
                return True
            except APIError as error:
                if error.status_code == 409:
                    return False
                raise
            return True

    @contextmanager
    def build_container(self, image: str, build_id: str, environment: Mapping[str, str]) -> Iterator[Container]:
        """A container to build in: no network, few capabilities, limits on everything. Removed in every case.

        Raises BaseVanished.
        """
        with translated(), _needing(image):
            created = self._client.containers.create(
                image,
                entrypoint=_IDLE,
                command=[],
                user="0:0",
                hostname="goldsmith",  # one for all: the engine would make one up, and builds would differ by it
                working_dir="/",
                environment=dict(environment),
                network_mode="none",
                cap_drop=["ALL"],
                cap_add=_CAPABILITIES,
                security_opt=["no-new-privileges", f"seccomp={build_profile()}"],
                labels={BUILD_LABEL: build_id},
                **self._limited(),
            )
        with self._removed(str(created.id)):
            yield Container(self._client.api, str(created.id), build_id)

    @contextmanager
    def trial_container(self, image: str, build_id: str, command: list[str] | None = None) -> Iterator[Container]:
        """A container of a finished image, run as its configuration says, on a network of its own.

        Nothing is routed out of that network; the host itself can be reached through it.
        With `command` the image's entrypoint is replaced: to look at an image that has no server to start.
        """
        replaced: dict[str, Any] = {"entrypoint": command, "command": []} if command else {}
        with own_network(self._client.api, build_id, internal=True) as network:
            with translated():
                try:
                    created = self._client.containers.create(
                        image,
                        **replaced,
                        network=network,
                        security_opt=["no-new-privileges"],
                        labels={BUILD_LABEL: build_id},
                        **self._limited(),
                    )
                except APIError as error:
                    if "No command specified" in said(error):
                        raise CommandMissing(
                            "a test needs the image started, but neither the recipe nor its base says what to start",
                            hint="give spec.entrypoint or spec.command",
                        ) from error
                    raise
            with self._removed(str(created.id)):
                yield Container(self._client.api, str(created.id), build_id)

    def builds_with_leftovers(self) -> set[str]:
        """The ids of all builds that have a container or a network in this engine."""
        with translated():
            filters: dict[str, Any] = {"label": BUILD_LABEL}
            containers = self._client.containers.list(all=True, filters=filters, ignore_removed=True)
            labels = [container.labels[BUILD_LABEL] for container in containers]
            networks = self._client.networks.list(filters=filters)
            return {*labels, *(network.attrs["Labels"][BUILD_LABEL] for network in networks)}

    def remove_leftovers(self, build_id: str) -> None:
        """Remove every container and network of a build, whoever made them."""
        with translated():
            filters: dict[str, Any] = {"label": f"{BUILD_LABEL}={build_id}"}
            for container in self._client.containers.list(all=True, filters=filters, ignore_removed=True):
                _remove(container)
            for network in self._client.networks.list(filters=filters):
                with suppress(NotFound):
                    network.remove()

    def _limited(self) -> dict[str, Any]:
        return {
            "mem_limit": self._limits.memory_bytes,
            "memswap_limit": self._limits.memory_bytes,
            "nano_cpus": int(self._limits.cpus * 1e9),
            "pids_limit": self._limits.processes,
            "log_config": {"type": "json-file", "config": {"max-size": "8m", "max-file": "1"}},
        }

    @contextmanager
    def _removed(self, container_id: str) -> Iterator[None]:
        try:
            yield
        finally:
            with translated(), suppress(NotFound):
                _remove(self._client.containers.get(container_id))


@contextmanager
def _needing(image: str) -> Iterator[None]:
    try:
        yield
    except ImageNotFound as error:
        raise BaseVanished(
            f"the engine no longer has the base image {image}", hint="build again: it is then had anew"
        ) from error


def _remove(container: DockerContainer) -> None:
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        # Somebody else is already removing it.
        if error.status_code != 409:
            raise
