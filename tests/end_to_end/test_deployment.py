"""The team deployment, on images that Goldsmith has built of itself: it comes up, releases, and survives a restore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.planning.mirrors import find_mirrors
from scripts.imaging.secrets import write_secrets
from scripts.imaging.service import RECIPES, build_images, own_archive
from scripts.stack.services import ENGINE_SOCKET, ROOT
from tests.end_to_end.world import Goldsmith, Released
from tests.integration.registry_server import free_port

SERVICES = {"api", "dispatcher", "postgresql", "redis", "registry", "sigstore"} | {
    f"worker-{queue}" for queue in ("build", "errands", "rebuild", "release", "scan")
}
BUILDERS = {"worker-build", "worker-rebuild"}
SIGNERS = {"worker-release", "worker-rebuild"}
# What a backup brings back, and what needs none: broker and caches.
STATE = ("database", "images", "state", "releases", "broker", "builds")


class Deployment:
    """compose.yaml with compose.lab.yaml, on ports of its own."""

    def __init__(self, goldsmith: Goldsmith, images: dict[str, str], directory: Path) -> None:
        self._engine = goldsmith.engine
        self.ports = {name: free_port() for name in ("API", "REDIS", "POSTGRESQL", "SIGSTORE")}
        self.registry = f"127.0.0.1:{free_port()}"
        self.directory = directory
        write_secrets(directory / "secrets", redis_port=self.ports["REDIS"], postgresql_port=self.ports["POSTGRESQL"])
        mirrors = find_mirrors(None, None)
        self.env = {
            **images,
            **{f"GOLDSMITH_{name}_PORT": str(port) for name, port in self.ports.items()},
            "GOLDSMITH_REGISTRY": self.registry,
            "GOLDSMITH_REGISTRY_LISTEN": self.registry,
            "GOLDSMITH_ENV": str(directory / "goldsmith.env"),
            "GOLDSMITH_SECRETS": str(directory / "secrets"),
            "GOLDSMITH_ENGINE_SOCKET": goldsmith.stack.engine_url.removeprefix("unix://"),
            "GOLDSMITH_DEBIAN_MIRROR": mirrors.main,
            "GOLDSMITH_DEBIAN_SECURITY_MIRROR": mirrors.security,
        }
        self.file = directory / "goldsmith.env"
        self.file.write_text("".join(f"{name}={value}\n" for name, value in self.env.items()))
        self.options = [
            "--project-name", "goldsmith-test", "--env-file", str(self.file),
            "--file", "compose.yaml", "--file", "compose.lab.yaml", "--profile", "rebuild",
        ]  # fmt: skip

    def compose(self, *arguments: str, check: bool = True) -> str:
        return self._run("docker-compose", *self.options, *arguments, check=check)

    def script(self, name: str, directory: Path) -> str:
        return self._run(f"scripts/{name}", str(directory), *self.options)

    def goldsmith(self, *arguments: str) -> str:
        config = {"GOLDSMITH_CLIENT_CONFIG": str(self.directory / "client.json")}
        return self._run(sys.executable, "-m", "builder.cli", *arguments, **config)

    def _run(self, *argv: str, check: bool = True, **more: str) -> str:
        own = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSMITH_")}
        done = subprocess.run(
            argv, cwd=ROOT, env=own | more, capture_output=True, text=True, check=False, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def wait_until_well(self, patience: float = 120) -> None:
        deadline = time.monotonic() + patience
        while bad := self.unwell():
            assert time.monotonic() < deadline, f"{bad}\n{self.compose('logs', '--tail', '20')}"
            time.sleep(1)

    def unwell(self) -> dict[str, str]:
        """Services that do not run, or whose health check has not passed yet."""
        found = dict.fromkeys(SERVICES, "is not there")
        label = {"label": "com.docker.compose.project=goldsmith-test"}
        for container in self._engine.containers.list(all=True, filters=label):
            state: dict[str, Any] = container.attrs["State"]
            health = state.get("Health", {}).get("Status", "healthy")
            name = container.labels["com.docker.compose.service"]
            # Those of workers ask for the first time after two minutes.
            enough = ("healthy", "starting") if name == "dispatcher" or name.startswith("worker-") else ("healthy",)
            well = state["Status"] == "running" and health in enough
            if well:
                found.pop(name, None)
            elif name in found:
                found[name] = f"{state['Status']}, {health}"
        return found

    def make_key(self) -> None:
        made = json.loads(
            self.compose("exec", "-T", "api", "goldsmith", "key", "create", "ci", "--scope", "admin", "--json")
        )
        config = self.directory / "client.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"url": f"http://127.0.0.1:{self.ports['API']}", "key": made["key"]}))


@pytest.fixture(scope="module")
def images(goldsmith: Goldsmith, web: Released, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with (
        own_archive(tmp_path_factory.mktemp("images")) as archives,
        goldsmith.worker("build", EXTRA_ARCHIVES=str(archives)),
    ):
        found = build_images(goldsmith.stack, print)
    for reference in found.values():
        goldsmith.engine.images.pull(reference)
    return found


@pytest.fixture(scope="module")
def deployment(
    goldsmith: Goldsmith, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    made = Deployment(goldsmith, images, tmp_path_factory.mktemp("deployment"))
    try:
        made.compose("up", "--detach")
        made.wait_until_well()
        made.make_key()
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "10", check=False)


def test_each_of_goldsmiths_own_images_was_released_by_goldsmith(goldsmith: Goldsmith, images: dict[str, str]) -> None:
    assert set(images) == set(RECIPES)
    shipped = {path.stem for path in (ROOT / "recipes/service").glob("*.yaml")}
    assert set(RECIPES.values()) == shipped
    for reference in images.values():
        statement = goldsmith.run("provenance", reference.partition("@")[2], "--statement").stdout
        assert json.loads(statement)["predicate"]["buildDefinition"]["internalParameters"]["hermetic"] is True


def test_it_releases_an_image_that_verifies(deployment: Deployment) -> None:
    ended = json.loads(deployment.goldsmith("build", "web", "--update", "--json"))
    reference = ended["result"]["reference"]
    assert reference.startswith(f"{deployment.registry}/golden/web@sha256:")
    deployment.goldsmith("verify", reference)
    rebuilt = json.loads(deployment.goldsmith("rebuild", reference, "--offline", "--json"))
    assert rebuilt["state"] == "reproduced"


def test_released_images_are_scanned_again_by_the_errands_worker(deployment: Deployment) -> None:
    deployment.goldsmith("rescan")
    deadline = time.monotonic() + 60
    while "released images again" not in deployment.compose("logs", "worker-errands"):
        assert time.monotonic() < deadline, deployment.compose("logs", "--tail", "20", "worker-errands")
        time.sleep(1)


def test_the_doctor_finds_nothing_to_mend_in_any_of_them(deployment: Deployment) -> None:
    for role in ("api", "dispatcher", "build", "scan", "errands", "release", "rebuild"):
        service = role if role in SERVICES else f"worker-{role}"
        told = json.loads(deployment.compose("exec", "-T", service, "goldsmith", "doctor", "--role", role, "--json"))
        assert {one["name"]: one for one in told["checks"] if one["state"] == "fail"} == {}, role


def test_services_have_what_they_need_and_no_more(deployment: Deployment) -> None:
    """The engine is the builders', the ledger's key the release worker's, an identity each signer's own; none but
    builders are root."""
    for service in sorted(SERVICES):
        seen = deployment.compose(
            "exec",
            "-T",
            service,
            "sh",
            "-c",
            "id -u; ls /var/run/docker.sock /run/secrets /etc/goldsmith/* 2>/dev/null; env",
        )
        lines = seen.splitlines()
        assert (lines[0] == "0") == (service in BUILDERS), service
        assert (ENGINE_SOCKET in lines) == (service in BUILDERS), service
        assert ("ledger.key" in lines) == (service == "worker-release"), service
        assert ("client_secret" in lines) == (service in SIGNERS), service
        assert not [line for line in lines if line.endswith((".key.pem", "_key.pem"))] or service == "sigstore"
        for secret in (deployment.directory / "secrets").iterdir():
            value = secret.read_text().strip()
            assert not value or value not in seen, f"{service} has {secret.name} in its environment"
        written = deployment.compose("exec", "-T", service, "sh", "-c", "touch /usr/x 2>&1 || true")
        assert "Read-only file system" in written, service


def test_what_was_backed_up_is_all_there_after_a_restore(deployment: Deployment, tmp_path: Path) -> None:
    before = json.loads(deployment.goldsmith("releases", "--json"))
    assert before["releases"]
    deployment.script("backup", tmp_path / "backup")
    deployment.compose("down", "--timeout", "10")
    for volume in STATE:
        deployment._engine.volumes.get(f"goldsmith-test_{volume}").remove()
    deployment.script("restore", tmp_path / "backup")
    deployment.wait_until_well()
    assert json.loads(deployment.goldsmith("releases", "--json")) == before
    checked = deployment.compose("exec", "-T", "worker-release", "goldsmith", "ledger", "verify", "--database")
    assert "intact       yes" in checked
    deployment.goldsmith("verify", before["releases"][0]["reference"])
