"""docs/air-gap.md, word for word: its commands, in its order, against a registry of this machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.scanning.artifact import database_artifact
from tests.integration.scanning_server import Registry, push, registry, sample

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "air-gap.md"


def commands(heading: str) -> str:
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert section, heading
    blocks = re.findall(r"^```sh\n(.*?)^```$", section.group(1), re.MULTILINE | re.DOTALL)
    assert blocks, f"{heading} has commands"
    return "".join(blocks)


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("inside")) as server:
        yield server


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the machine outside has written. A registry stands for the internet there."""
    place = tmp_path_factory.mktemp("medium")
    with registry(tmp_path_factory.mktemp("internet")) as internet:
        push(internet, "trivy-db", database_artifact(sample().archive))
        done = run("Outside", tmp_path_factory.mktemp("outside"), place, "", f"{internet.host}/trivy-db")
    assert done.returncode == 0, done.stderr
    return place


def run(
    heading: str, home: Path, medium: Path, host: str, database: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "GOLDSMITH_STATE_DIRECTORY": str(home / "state"),
        "MEDIUM": str(medium),
        "REGISTRY": host,
        **({"GOLDSMITH_TRIVY_DATABASE": database} if database else {}),
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(heading)], cwd=home, env=environment, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip


def test_what_goes_onto_the_medium_is_the_database_with_its_checksum(medium: Path) -> None:
    assert {entry.name for entry in medium.iterdir()} == {"trivy-db.tar.gz", "trivy-db.tar.gz.sha256"}


def test_it_comes_in_through_a_registry(medium: Path, inside: Registry, tmp_path: Path) -> None:
    done = run("Inside, with a registry", tmp_path, medium, inside.host)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^usable +yes$", done.stdout, re.MULTILINE)
    assert f"came from     oci:{inside.host}/mirror/trivy-db:2" in done.stdout


def test_it_comes_in_without_one(medium: Path, tmp_path: Path) -> None:
    done = run("Inside, without a registry", tmp_path, medium, "")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^usable +yes$", done.stdout, re.MULTILINE)
    assert re.search(r"^came from +imported,", done.stdout, re.MULTILINE)


def test_a_worn_medium_is_noticed(medium: Path, inside: Registry, tmp_path: Path) -> None:
    worn = tmp_path / "worn"
    worn.mkdir()
    for entry in medium.iterdir():
        (worn / entry.name).write_bytes(entry.read_bytes())
    content = bytearray((worn / "trivy-db.tar.gz").read_bytes())
    content[len(content) // 2] ^= 1
    (worn / "trivy-db.tar.gz").write_bytes(content)
    assert run("Inside, with a registry", tmp_path, worn, inside.host).returncode != 0
    assert run("Inside, without a registry", tmp_path, worn, "").returncode != 0
