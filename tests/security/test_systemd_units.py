"""The units of deploy/systemd are valid to systemd itself, and give nobody more than it needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).resolve().parents[2] / "deploy/systemd").glob("*.service"))
WALLS = ["NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "ProtectKernelModules=yes",
         "RestrictRealtime=yes", "LockPersonality=yes", "UMask=0077", "LimitCORE=0"]  # fmt: skip


def test_there_is_one_for_each_process() -> None:
    assert {unit.stem.removeprefix("goldsmith-") for unit in UNITS} == {
        "api", "dispatcher", "build", "scan", "release", "errands",
    }  # fmt: skip


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_each_has_walls(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    assert [wall for wall in WALLS if wall not in lines] == []
    user = re.search(r"^User=(.*)$", unit.read_text(), re.M)
    assert user is not None
    assert (user.group(1) == "root") == (unit.stem == "goldsmith-build")
    if unit.stem != "goldsmith-build":
        assert "CapabilityBoundingSet=" in lines
    named = re.search(r"workers\.(\w+)", unit.read_text())
    assert named is None or named.group(1) == unit.stem.removeprefix("goldsmith-")


def test_the_signer_is_an_account_of_its_own() -> None:
    users = {unit.stem: re.search(r"^User=(.*)$", unit.read_text(), re.M) for unit in UNITS}
    told = {stem: found.group(1) for stem, found in users.items() if found}
    assert [stem for stem, user in told.items() if user == told["goldsmith-release"]] == ["goldsmith-release"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed: it validates units")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    """With a program that is there: whether Goldsmith is installed is not the question."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/goldsmith/bin/python", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    own = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, own) == (0, []), done.stderr
