"""What apt-cache policy tells, read: who is behind, and whether the security archive knows better."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.planning.updates import PendingUpdate, pending_updates
from tests.unit.test_planning_apt import archive

SECURITY = "        500 http://m.example/debian-security trixie-security/main amd64 Packages\n"
MAIN = "        500 http://m.example/debian trixie/main amd64 Packages\n"
UPDATES = "        500 http://m.example/debian trixie-updates/main amd64 Packages\n"
STATUS = "        100 /apt/status-0\n"


class Told:
    """An archive whose apt tells this."""

    def __init__(self, text: str) -> None:
        self.text, self.refreshed = text, False

    def refresh(self) -> None:
        self.refreshed = True

    def versions(self, packages: list[str], *, status: bytes) -> str:
        assert self.refreshed, "apt would tell of an old day"
        assert packages == sorted(packages)
        return self.text


def pending(text: str) -> tuple[PendingUpdate, ...]:
    return pending_updates(Told(text), ["openssl", "libc6"], status=b"s")  # type: ignore[arg-type]


def block(installed: str, candidate: str, *table: str, name: str = "openssl") -> str:
    return f"{name}:\n  Installed: {installed}\n  Candidate: {candidate}\n  Version table:\n{''.join(table)}"


def version(text: str, *sources: str, installed: bool = False) -> str:
    return f" {'***' if installed else '   '} {text} 500\n{''.join(sources)}"


def test_what_is_current_is_not_behind() -> None:
    assert pending(block("2", "2", version("2", MAIN, STATUS, installed=True))) == ()


def test_a_newer_version_in_the_main_archive_is_an_update() -> None:
    told = block("1", "2", version("2", MAIN), version("1", STATUS, installed=True))
    assert pending(told) == (PendingUpdate("openssl", "1", "2", security=False),)


@pytest.mark.parametrize(
    ("table", "security"),
    [
        ([version("3", SECURITY), version("1", STATUS, installed=True)], True),
        ([version("3", MAIN, SECURITY), version("1", STATUS, installed=True)], True),
        ([version("3", UPDATES), version("2", SECURITY), version("1", STATUS, installed=True)], True),
        ([version("3", MAIN), version("1", SECURITY, STATUS, installed=True)], False),
        ([version("3", UPDATES), version("2", STATUS, installed=True), version("1", SECURITY)], False),
    ],
)
def test_it_is_a_security_update_if_the_security_archive_has_anything_newer_than_what_is_installed(
    table: list[str], security: bool
) -> None:
    (one,) = pending(block("1", "3", *table))
    assert one.security is security


def test_one_among_many_is_told() -> None:
    current = block("5", "5", version("5", MAIN, installed=True), name="libc6")
    behind = block("1:1.0+b1", "1:1.1~rc1-2", version("1:1.1~rc1-2", SECURITY), version("1:1.0+b1", installed=True))
    assert pending(current + behind) == (PendingUpdate("openssl", "1:1.0+b1", "1:1.1~rc1-2", security=True),)


def test_a_package_of_a_named_architecture_is_one() -> None:
    assert [one.package for one in pending(block("1", "2", version("2", MAIN), name="libc6:i386"))] == ["libc6"]


@pytest.mark.parametrize(
    "told",
    ["", "N: Unable to locate package x\n", block("(none)", "2", version("2", MAIN)), block("1", "(none)")],
)
def test_what_no_archive_has_and_what_is_not_installed_is_not_behind(told: str) -> None:
    assert pending(told) == ()


def test_without_packages_nobody_is_asked(tmp_path: Path) -> None:
    assert pending_updates(archive(tmp_path), [], status=b"") == ()
    assert not (tmp_path / "apt").exists()
