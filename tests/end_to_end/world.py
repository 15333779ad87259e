"""A running Goldsmith as its users see it, and the host it runs on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx

from builder.image.documents import Descriptor
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.reference import Repository
from scripts.stack.services import ROOT, Stack

PATIENCE = 240


@dataclass(frozen=True)
class Released:
    """A build that was released: the API's view of it, and the image's reference by digest."""

    build: dict[str, Any]

    @property
    def digest(self) -> str:
        return str(self.build["result"]["digest"])

    @property
    def reference(self) -> str:
        return str(self.build["result"]["reference"])


class Goldsmith:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.client = json.loads(stack.client_config.read_text())
        self.api = httpx.Client(
            base_url=stack.api_url, headers={"Authorization": f"Bearer {self.client['key']}"}, timeout=30
        )
        self.registry = RegistryClient(Access(), lock_directory=stack.state / "test-locks")
        self.engine = docker.DockerClient(base_url=stack.engine_url)

    # Asking for builds

    def submit(self, recipe: str | dict[str, Any], **options: Any) -> str:
        """Ask for a build that is really done, whatever was released before; `options` are more of the request."""
        answer = self.api.post("/v1/builds", json={"recipe": recipe, "force": True, **options})
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/builds/{answer.json()['id']}"
        return str(answer.json()["id"])

    def build(self, build_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/v1/builds/{build_id}").raise_for_status().json()
        return found

    def finished(self, build_id: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The build, once it has ended."""
        return self.until(build_id, lambda build: build["finishedAt"] is not None, patience)

    def until(
        self, build_id: str, holds: Callable[[dict[str, Any]], bool], patience: float = PATIENCE
    ) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        while True:
            build = self.build(build_id)
            if holds(build):
                return build
            assert time.monotonic() < deadline, f"still {build['state']} after {patience} s: {build['steps']}"
            assert build["finishedAt"] is None, f"ended as {build['state']}: {build['problem']}\n{self.log(build_id)}"
            time.sleep(0.1)

    def release(self, recipe: str | dict[str, Any], **options: Any) -> Released:
        build = self.finished(self.submit(recipe, **options))
        assert build["state"] == "released", f"{build['problem']}\n{self.log(build['id'])}"
        return Released(build)

    def fail(self, recipe: str | dict[str, Any]) -> dict[str, Any]:
        """A build that must fail: its problem."""
        build = self.finished(self.submit(recipe))
        assert build["state"] == "failed", f"{build['state']}\n{self.log(build['id'])}"
        problem: dict[str, Any] = build["problem"]
        assert problem["title"]
        assert problem["detail"]
        return problem

    def rebuild(self, digest: str, *, offline: bool = True) -> dict[str, Any]:
        """A rebuild of a released image, as it ended."""
        answer = self.api.post(f"/v1/images/{digest}/rebuilds", json={"offline": offline})
        assert answer.status_code == 202, answer.text
        return self.finished(answer.json()["id"])

    def lock(self, recipe: str | dict[str, Any]) -> dict[str, Any]:
        """The lock that the service resolves for a recipe."""
        answer = self.api.post("/v1/locks", json={"recipe": recipe})
        assert answer.status_code == 202, answer.text
        build = self.finished(answer.json()["id"])
        assert build["state"] == "locked", build["problem"]
        found: dict[str, Any] = self.api.get(f"/v1/builds/{build['id']}/lock").raise_for_status().json()
        return found

    @contextmanager
    def worker(self, queue: str, application: str | None = None, **settings: str) -> Iterator[None]:
        """One of the workers for a while with other settings (without GOLDSMITH_), or as another application."""
        name, stack = f"worker-{queue}", self.stack
        before = dict(stack.overrides), dict(stack.applications)
        stack.process(name).stop()
        stack.overrides |= settings
        stack.applications |= {queue: application} if application else {}
        try:
            stack.start(name)
            yield
        finally:
            stack.process(name).stop()
            stack.overrides, stack.applications = before
            stack.start(name)

    def log(self, build_id: str) -> str:
        return self.api.get(f"/v1/builds/{build_id}/logs").text

    def recipe(self, name: str, **spec: Any) -> dict[str, Any]:
        """A small recipe on the released base, which takes seconds to build."""
        return {
            "apiVersion": "goldsmith/v1",
            "kind": "Image",
            "metadata": {"name": name},
            "spec": {"base": {"recipe": "debian"}, "publish": {"repository": f"test/{name}"}, **spec},
        }

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The CLI, as the user of this stack runs it."""
        env = self.stack.environment("cli") | {"GOLDSMITH_CLIENT_CONFIG": str(self.stack.client_config)}
        done = subprocess.run(
            [sys.executable, "-m", "builder.cli", *arguments], env=env, cwd=ROOT, capture_output=True, text=True,
            check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    # Looking at what is left

    def tags(self, repository: str) -> list[str]:
        return self.registry.manifests.tags(Repository(self.stack.registry, repository))

    def manifests(self, repository: str) -> set[str]:
        """Digests of all manifests that a repository of the local registry holds."""
        revisions = (
            self.stack.state / "registry/docker/registry/v2/repositories" / repository / "_manifests/revisions/sha256"
        )
        return {path.parent.name for path in revisions.glob("*/link")}

    def referrers(self, released: Released) -> list[Descriptor]:
        repository = self.repository(released)
        return self.registry.referrers.of(repository, released.digest)

    def repository(self, released: Released) -> Repository:
        registry, _, name = released.reference.partition("@")[0].partition("/")
        return Repository(registry, name)

    def leftovers(self) -> dict[str, list[str]]:
        """Everything that a build must not leave behind on the host or in staging; empty lists when all is well."""
        labelled = {"filters": {"label": "goldsmith.build"}}
        staging = self.stack.state / "registry/docker/registry/v2/repositories/staging"
        state = str(self.stack.state)
        return {
            "containers": [c.name or "?" for c in self.engine.containers.list(all=True, **labelled)],
            "networks": [n.name or "?" for n in self.engine.networks.list(**labelled)],
            "spool": [path.name for path in (self.stack.state / "state/spool").glob("*")],
            "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if f"{state}/state" in line],
            # os.walk goes on where the registry removes a directory meanwhile.
            "staged": [
                directory
                for directory, _, files in os.walk(staging)
                if "link" in files and "/_manifests/revisions/sha256/" in directory
            ],
        }

    def wait_until_clean(self, patience: float = 90) -> None:
        deadline = time.monotonic() + patience
        while any(self.leftovers().values()):
            assert time.monotonic() < deadline, self.leftovers()
            time.sleep(0.3)
