"""What Goldsmith itself is made of is pinned: every library by hash, every action and image by what cannot move."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock"]


def stanzas(name: str) -> dict[str, str]:
    """Each requirement with what belongs to it."""
    text = re.sub(r"\\\n", " ", (ROOT / name).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {line.split("==")[0].strip().lower(): line for line in lines}


@pytest.mark.parametrize("name", LOCKS)
def test_every_library_is_pinned_by_version_and_hash(name: str) -> None:
    found = stanzas(name)
    assert len(found) > 50
    loose = [one for one, line in found.items() if not re.search(r"==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]
    assert loose == []


@pytest.mark.parametrize("name", LOCKS)
def test_none_comes_from_elsewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"(?m)^\s*(-e|--editable|--index-url|--extra-index-url|--find-links|--trusted-host)|://", text)


@pytest.mark.parametrize(("wanted", "lock"), [("requirements.in", LOCKS[0]), ("requirements-dev.in", LOCKS[1])])
def test_what_is_asked_for_is_locked(wanted: str, lock: str) -> None:
    asked = re.findall(r"(?m)^([A-Za-z0-9][A-Za-z0-9_.-]*)", (ROOT / wanted).read_text())
    locked = {re.sub(r"[-_.]+", "-", name.partition("[")[0]) for name in stanzas(lock)}
    assert [name for name in asked if re.sub(r"[-_.]+", "-", name.lower()) not in locked] == []


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/imaging/package.py"])
def test_installing_demands_the_hashes(script: str) -> None:
    assert "--require-hashes" in (ROOT / script).read_text()


def test_nothing_is_fetched_and_run_unread() -> None:
    fetching = re.compile(r"(curl|wget)[^\n]*\|\s*(sudo\s+)?(ba)?sh")
    found = [
        path
        for path in ROOT.glob("scripts/**/*")
        if path.is_file() and fetching.search(path.read_text("utf-8", "replace"))
    ]
    assert found == []
