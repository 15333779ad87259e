"""How much memory may still be taken: the kernel's word, and that of each control group above us."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.engine import memory
from builder.engine.memory import available

FREE = 8_000_000 * 1024


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of /sys/fs/cgroup, and a kernel with 8 GB to give."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable:    8000000 kB\n")
    (tmp_path / "cgroup").write_text("")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_VERSION_1", (tmp_path / "fs" / "memory", *memory._VERSION_1[1:]))
    monkeypatch.setattr(memory, "_VERSION_2", (tmp_path / "fs", *memory._VERSION_2[1:]))
    return tmp_path / "fs"


def group(directory: Path, version: int, limit: int | str, use: int, reclaimable: int = 0) -> None:
    names = memory._VERSION_1 if version == 1 else memory._VERSION_2
    directory.mkdir(parents=True, exist_ok=True)
    (directory / names[1]).write_text(f"{limit}\n")
    (directory / names[2]).write_text(f"{use}\n")
    (directory / "memory.stat").write_text(f"anon 5\n{names[3]} {reclaimable}\nactive_file 7\n")


def test_without_groups_it_is_what_the_kernel_says(groups: Path) -> None:
    assert available() == FREE


@pytest.mark.parametrize(("version", "line"), [(1, "4:cpu,memory:/a/b"), (2, "0::/a/b")])
def test_the_tightest_group_counts(groups: Path, version: int, line: str) -> None:
    (groups.parent / "cgroup").write_text(f"7:pids:/elsewhere\n{line}\n")
    top = groups / "memory" if version == 1 else groups
    group(top / "a" / "b", version, 900, 100)
    assert available() == 800
    group(top / "a", version, 1000, 500)
    assert available() == 500
    group(top, version, 10_000, 9_999)
    assert available() == 1


@pytest.mark.parametrize(("version", "line"), [(1, "4:memory:/a"), (2, "0::/a")])
def test_what_the_kernel_can_take_back_is_free(groups: Path, version: int, line: str) -> None:
    (groups.parent / "cgroup").write_text(f"{line}\n")
    group((groups / "memory" if version == 1 else groups) / "a", version, 1000, 900, reclaimable=600)
    assert available() == 700


@pytest.mark.parametrize(("version", "line"), [(1, "4:memory:/docker/0123"), (2, "0::/docker/0123")])
def test_a_container_that_sees_its_own_group_at_the_root_is_held_to_it(groups: Path, version: int, line: str) -> None:
    (groups.parent / "cgroup").write_text(f"{line}\n")
    group(groups / "memory" if version == 1 else groups, version, 1000, 400)
    assert available() == 600


def test_a_group_without_a_limit_limits_nothing(groups: Path) -> None:
    (groups.parent / "cgroup").write_text("0::/a\n")
    group(groups / "a", 2, "max", 900)
    assert available() == FREE


def test_a_kernel_that_does_not_say_has_none(groups: Path) -> None:
    (groups.parent / "meminfo").write_text("MemTotal: 16000000 kB\n")
    assert available() == 0
