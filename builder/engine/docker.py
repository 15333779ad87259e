"""The Docker Engine, through its SDK: images in, containers out, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container as DockerContainer
from docker.types import Ulimit

from builder.engine.container import SECRETS, Container
from builder.engine.disk import DiskQuota
from builder.engine.faults import EngineUnavailable, said, translated
from builder.engine.network import BUILD_LABEL, is_here, own_network
from builder.engine.owners import Owners, security_of
from builder.engine.syscalls import build_profile
from builder.errors import Rejected, SettingsInvalid, Unavailable

CACHE_REPOSITORY = "goldsmith-cache"

# What dpkg and maintainer scripts need to own, move and drop privileges on files; nothing that reaches the host.
_CAPABILITIES = [
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
]  # fmt: skip
# Of those that an engine gives, what no server needs and an attacker wants.
_NOT_IN_TRIALS = ["AUDIT_WRITE", "MKNOD", "NET_RAW"]
# What the engine's host can hold a container to, by the names of `GET /info`.
_HELD = {"MemoryLimit": "memory", "SwapLimit": "swap", "PidsLimit": "processes", "CpuCfsQuota": "processors"}
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
    disk_bytes: int = 16 * 1024**3


class Engine:
    """One connection to one engine. `login` answers (user, password) for a registry's host, for that one alone;
    `runtime` is the OCI runtime of all containers, by the name that the engine knows it by."""

    def __init__(self, url: str, limits: Limits, login: Login = lambda _: None, *, runtime: str | None = None) -> None:
        self._limits = limits
        self._login = login
        self._runtime = runtime
        try:
            self._client = docker.DockerClient(base_url=url, timeout=120, version="auto")
        except (DockerException, requests.RequestException) as error:
            raise EngineUnavailable(
                f"no Docker Engine answers at {url}", hint="start it, or set GOLDSMITH_ENGINE_URL"
            ) from error

    def close(self) -> None:
        self._client.close()

    def identity(self) -> str:
        """The engine's name and version and how it walls containers off, for the record."""
        security = security_of(self._about)
        walls = ["rootless"] if "rootless" in security else []
        walls += ["user namespaces"] if "userns" in security else []
        walls += [f"runtime {self._runtime}"] if self._runtime else []
        with translated():
            return ", ".join([f"docker {self._client.version()['Version']}", *walls])

    @cached_property
    def _about(self) -> dict[str, Any]:
        with translated():
            return dict(self._client.info())

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
    def build_container(
        self, image: str, build_id: str, environment: Mapping[str, str], *, secrets: bool = False
    ) -> Iterator[Container]:
        """A container to build in: no network, few capabilities, limits on everything. Removed in every case.

        `secrets` has it keep what it is given as secrets in memory.

        Raises BaseVanished.
        """
        with translated(), self._needing(image):
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
                tmpfs={SECRETS: "size=4m,mode=0700"} if secrets else {},
                **self._limited(),
            )
        with self._removed(str(created.id)):
            yield self._container(str(created.id), build_id)

    @contextmanager
    def trial_container(self, image: str, build_id: str, command: list[str] | None = None) -> Iterator[Container]:
        """A container of a finished image, run as its configuration says, on a network of its own.

        Nothing is routed out of that network; the host itself can be reached through it.
        With `command` the image's entrypoint is replaced: to look at an image that has no server to start. Without, it
        must be within our reach. Raises CommandMissing and SettingsInvalid.
        """
        replaced: dict[str, Any] = {"entrypoint": command, "command": []} if command else {}
        with own_network(self._client.api, build_id, internal=True) as network:
            if command is None and not is_here(network):
                raise SettingsInvalid(
                    "GOLDSMITH_ENGINE_URL: the engine's networks are not on this host, so no server there can be asked",
                    hint="run the build worker where they are, or have recipes without tests of ports and http",
                )
            with translated():
                try:
                    created = self._client.containers.create(
                        image,
                        **replaced,
                        network=network,
                        cap_drop=_NOT_IN_TRIALS,
                        security_opt=["no-new-privileges"],
                        labels={BUILD_LABEL: build_id},
                        **self._limited(),
                    )
                except APIError as error:
                    self._refuse_unknown_runtime(error)
                    if "No command specified" in said(error):
                        raise CommandMissing(
                            "a test needs the image started, but neither the recipe nor its base says what to start",
                            hint="give spec.entrypoint or spec.command",
                        ) from error
                    raise
            with self._removed(str(created.id)):
                yield self._container(str(created.id), build_id)

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
        """Raises SettingsInvalid if the engine's host would not hold a container to it: the engine itself goes on."""
        if loose := [what for told, what in _HELD.items() if self._about.get(told) is not True]:
            raise SettingsInvalid(
                f"GOLDSMITH_ENGINE_URL: the engine cannot limit the {', '.join(loose)} of a container",
                hint="a rootless one needs control groups of version 2, delegated to its user; with version 1, swap "
                "needs the kernel's parameter swapaccount=1",
            )
        return {
            "mem_limit": self._limits.memory_bytes,
            "memswap_limit": self._limits.memory_bytes,
            "nano_cpus": int(self._limits.cpus * 1e9),
            "pids_limit": self._limits.processes,
            "ulimits": [Ulimit(name="fsize", soft=self._limits.disk_bytes, hard=self._limits.disk_bytes)],
            "runtime": self._runtime,
            "log_config": {"type": "json-file", "config": {"max-size": "8m", "max-file": "1"}},
        }

    def _container(self, container_id: str, build_id: str) -> Container:
        root = Path(self._about.get("DockerRootDir") or "/nonexistent")
        quota = DiskQuota(self._client.api, container_id, self._limits.disk_bytes, root if root.is_dir() else None)
        return Container(self._client.api, container_id, build_id, quota, Owners.of(self._about))

    @contextmanager
    def _needing(self, image: str) -> Iterator[None]:
        try:
            yield
        except ImageNotFound as error:
            raise BaseVanished(
                f"the engine no longer has the base image {image}", hint="build again: it is then had anew"
            ) from error
        except APIError as error:
            self._refuse_unknown_runtime(error)
            raise

    def _refuse_unknown_runtime(self, error: APIError) -> None:
        if self._runtime is not None and "unknown" in said(error).lower() and "runtime" in said(error).lower():
            known = ", ".join(sorted(self._about.get("Runtimes") or {})) or "none"
            raise SettingsInvalid(
                f"GOLDSMITH_ENGINE_RUNTIME: the engine knows no runtime {self._runtime!r}, but {known}",
                hint="have it registered in the engine's daemon.json, or choose one of these",
            ) from error

    @contextmanager
    def _removed(self, container_id: str) -> Iterator[None]:
        try:
            yield
        finally:
            with translated(), suppress(NotFound):
                _remove(self._client.containers.get(container_id))


def _remove(container: DockerContainer) -> None:
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        # Somebody else is already removing it.
        if error.status_code != 409:
            raise
