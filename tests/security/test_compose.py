"""compose.yaml as compose itself reads it: who may have what, and what is off unless it is asked for."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LAB = ("compose.yaml", "compose.lab.yaml")
Services = dict[str, dict[str, Any]]


def read(tmp_path: Path, *files: str) -> Services:
    """The services, with whatever must be set set to something."""
    asked = {name for file in files for name in re.findall(r"\$\{(\w+):\?", (ROOT / file).read_text())}
    env = tmp_path / "goldsmith.env"
    env.write_text("".join(f"{name}=some\n" for name in asked) + f"GOLDSMITH_ENV={env}\n")
    done = subprocess.run(
        ["docker-compose", "--env-file", env, *(part for file in files for part in ("--file", file)), "--profile",
         "rebuild", "config"],
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: Services = yaml.safe_load(done.stdout)["services"]
    return found


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """What is mounted, by where."""
    found = {}
    for one in service.get("volumes", []):
        source, target = (one["source"], one["target"]) if isinstance(one, dict) else one.split(":")[:2]
        found[target] = source
    return found


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return read(tmp_path_factory.mktemp("compose"), "compose.yaml")


def test_builders_alone_have_the_engine(services: Services) -> None:
    assert {name for name, one in services.items() if "/var/run/docker.sock" in mounts(one)} == {
        "worker-build", "worker-rebuild",
    }  # fmt: skip


def test_the_ledgers_key_is_the_release_workers(services: Services) -> None:
    has = {name for name, one in services.items() if "ledger.key" in str(one.get("secrets"))}
    assert has == {"worker-release"}


def test_who_rebuilds_shares_neither_state_nor_identity_with_who_released(services: Services) -> None:
    rebuilder = mounts(services["worker-rebuild"])
    for name in ("worker-build", "worker-release"):
        other = mounts(services[name])
        for place in ("/var/lib/goldsmith", "/etc/goldsmith/identity"):
            assert rebuilder[place] != other.get(place), f"{name}: {place}"


def test_a_rebuild_worker_is_off_unless_it_is_asked_for(services: Services) -> None:
    read = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert {name for name, one in read.items() if one.get("profiles")} == {"worker-rebuild"}


def test_each_process_of_ours_has_a_health_check_of_its_own_role(services: Services) -> None:
    for name, one in services.items():
        if name == "dispatcher" or name.startswith("worker-"):
            assert one["healthcheck"]["test"][-1] == name.removeprefix("worker-")


def test_in_the_lab_each_signer_has_a_secret_of_its_own(tmp_path: Path) -> None:
    lab = read(tmp_path, *LAB)
    clients = {
        name: lab[name]["environment"]["GOLDSMITH_IDENTITY_CLIENT_ID"] for name in ("worker-release", "worker-rebuild")
    }
    assert len(set(clients.values())) == 2
    release, rebuild = (mounts(lab[name])["/etc/goldsmith/identity"] for name in ("worker-release", "worker-rebuild"))
    given = {name: {source for where, source in mounts(one).items() if where.startswith("/etc/goldsmith/identity")}
             for name, one in lab.items() if name.startswith("sigstore-")}  # fmt: skip
    assert given == {"sigstore-files": {release}, "sigstore-rebuilder": {rebuild}}
