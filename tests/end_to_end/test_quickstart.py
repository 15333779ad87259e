"""The two commands of the README, as a new user meets them: a fresh clone, nothing set up."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.stack.services import ROOT


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, docker_engine: str) -> Iterator[Path]:
    """A clone of the commit under test; what runs in it ends with the test."""
    target = tmp_path_factory.mktemp("clone") / "goldsmith"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)
    yield target
    quickstart(target, "--stop")


def quickstart(clone: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSMITH_")}
    return subprocess.run(
        [clone / "scripts/quickstart", *arguments], env={**clean, **env}, cwd="/", capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip


def test_from_nothing_to_a_released_image_and_again_in_seconds(clone: Path) -> None:
    first = quickstart(clone)
    assert first.returncode == 0, first.stdout + first.stderr
    for promised in (
        "golden/web@sha256:", "packages", "findings", "gate", "https://sandbox.invalid/goldsmith", "log index",
        "record", "goldsmith verify", "docker pull", "goldsmith compare", "SANDBOX", "SAMPLE",
    ):  # fmt: skip
        assert promised in first.stdout, promised
    assert "web/canonicalise" in first.stdout, "progress is shown step by step"
    base = json.loads((clone / "recipes/web.lock.json").read_text())["base"]["image"]
    assert base in first.stdout or "cannot be had here any more" in first.stdout, "a lock gives what it was made for"
    assert oct((clone / ".goldsmith").stat().st_mode & 0o777) == "0o700"
    assert oct((clone / ".goldsmith/client.json").stat().st_mode & 0o777) == "0o600"

    pids = running(clone)
    started = time.monotonic()
    second = quickstart(clone)
    assert second.returncode == 0, second.stdout + second.stderr
    assert time.monotonic() - started < 60
    assert running(clone) == pids, "what runs is used as it is"
    assert digest_in(second.stdout) == digest_in(first.stdout)

    stopped = quickstart(clone, "--stop")
    assert stopped.returncode == 0
    assert running(clone) == {}
    assert "engine" not in stopped.stdout, "the engine was there before, so it stays"

    started_only = quickstart(clone, "--no-demo")
    assert started_only.returncode == 0
    assert "building" not in started_only.stdout
    assert "runs" in quickstart(clone, "--status").stdout


def test_what_cannot_start_is_told_in_one_line_with_its_log(clone: Path) -> None:
    assert quickstart(clone, "--stop").returncode == 0
    ports = json.loads((clone / ".goldsmith/stack.json").read_text())["ports"]
    argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(ports["redis"]), "--save", ""]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as other:
        try:
            time.sleep(1)
            failed = quickstart(clone, "--no-demo")
            assert other.poll() is None, "what was there before is left alone"
        finally:
            other.terminate()
    assert failed.returncode == 1
    told = failed.stderr.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith("quickstart: redis")
    assert str(clone / ".goldsmith/log/redis.log") in told[0]


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["--nonsense"], 64), (["--stop", "--stop"], 64)])
def test_options(clone: Path, arguments: list[str], code: int) -> None:
    done = quickstart(clone, *arguments)
    assert done.returncode == code
    assert "quickstart" in done.stdout + done.stderr


def running(clone: Path) -> dict[str, int]:
    found = {}
    for file in (clone / ".goldsmith/run").glob("*.json"):
        pid = json.loads(file.read_text())["pid"]
        if Path(f"/proc/{pid}").exists():
            found[file.stem] = pid
    return found


def digest_in(text: str) -> str:
    return text.split("golden/web@")[1].split()[0].rstrip(",")
