"""Locked packages from an archive by path, with apt's real downloader and a local server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest

from builder.errors import Cancelled
from builder.planning.debs import DebStore
from builder.planning.lock import LockedPackage
from builder.planning.mirrored import MirrorSource
from builder.planning.mirrors import Mirrors
from builder.planning.supply import MaterialGone, Supply
from tests.integration.hostile_server import Answer, Request, Server, answering
from tests.integration.registry_server import free_port

CONTENT = b"!<arch>\nwhat a package holds"


def package(name: str = "hello", content: bytes = CONTENT, **changes: str | None) -> LockedPackage:
    data = {
        "name": name,
        "version": "2.10-3",
        "architecture": "amd64",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "path": f"pool/main/{name}_2.10-3_amd64.deb",
    }
    return LockedPackage.model_validate({**data, **changes})


def mirrors_of(server: Server) -> Mirrors:
    return Mirrors(f"http://{server.address}/debian", f"http://{server.address}/security")


@contextmanager
def archive(files: dict[str, bytes]) -> Iterator[tuple[Mirrors, Server]]:
    """Mirrors below /debian and /security of one server that has these files."""

    def answer(request: Request) -> Answer:
        found = files.get(unquote(request.path))
        return Answer(404) if found is None else Answer(body=found)

    with answering(answer) as server:
        yield mirrors_of(server), server


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_package_is_fetched_from_its_path_in_the_archive(tmp_path: Path) -> None:
    wanted = package()
    with archive({"/debian/pool/main/hello_2.10-3_amd64.deb": CONTENT}) as (mirrors, server):
        assert MirrorSource(mirrors).fetch(wanted, tmp_path / "a.deb")
    assert (tmp_path / "a.deb").read_bytes() == CONTENT
    assert [request.path for request in server.requests] == ["/debian/pool/main/hello_2.10-3_amd64.deb"]


def test_what_the_archive_has_no_more_may_be_in_the_security_archive(tmp_path: Path) -> None:
    with archive({"/security/pool/main/hello_2.10-3_amd64.deb": CONTENT}) as (mirrors, server):
        assert MirrorSource(mirrors).fetch(package(), tmp_path / "a.deb")
    assert (tmp_path / "a.deb").read_bytes() == CONTENT
    assert [request.path.split("/")[1] for request in server.requests] == ["debian", "security"]


@pytest.mark.parametrize(
    "path",
    [
        "pool/main/g/gcc-12/g++-12_12.2.0-14+deb12u1_amd64.deb",
        "pool/main/g/glibc/libc6_2.36~rc1-9_amd64.deb",
        "pool/main/e/epoch/epoch_1:2.0-1_amd64.deb",
        "pool/main/e/escaped/escaped_1%3a2.0-1_amd64.deb",
    ],
)
def test_what_a_debian_name_may_hold_arrives_as_it_is(tmp_path: Path, path: str) -> None:
    with archive({f"/debian/{path}": CONTENT}) as (mirrors, server):
        assert MirrorSource(mirrors).fetch(package(path=path), tmp_path / "a.deb")
    assert [unquote(request.path) for request in server.requests] == [f"/debian/{path}"]


def test_other_content_at_its_path_counts_as_not_there(tmp_path: Path) -> None:
    poisoned = {"/debian/pool/main/hello_2.10-3_amd64.deb": CONTENT.replace(b"holds", b"hides")}
    with archive(poisoned) as (mirrors, _):
        assert not MirrorSource(mirrors).fetch(package(), tmp_path / "a.deb")
    assert not (tmp_path / "a.deb").exists()


def test_other_content_in_one_archive_keeps_nobody_from_the_right_one_in_the_other(tmp_path: Path) -> None:
    both = {"/debian/pool/main/hello_2.10-3_amd64.deb": b"x", "/security/pool/main/hello_2.10-3_amd64.deb": CONTENT}
    with archive(both) as (mirrors, _):
        assert MirrorSource(mirrors).fetch(package(), tmp_path / "a.deb")
    assert (tmp_path / "a.deb").read_bytes() == CONTENT


def test_an_archive_that_does_not_answer_counts_as_one_that_has_nothing(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    with archive({"/security/pool/main/hello_2.10-3_amd64.deb": CONTENT}) as (mirrors, _):
        assert not MirrorSource(Mirrors(dead, dead)).fetch(package(), tmp_path / "a.deb")
        assert MirrorSource(Mirrors(dead, mirrors.security)).fetch(package(), tmp_path / "a.deb")


def test_a_package_without_a_path_is_asked_of_nobody(tmp_path: Path) -> None:
    with archive({}) as (mirrors, server):
        assert not MirrorSource(mirrors).fetch(package(path=None), tmp_path / "a.deb")
    assert server.requests == []


def test_a_build_that_is_stopped_waits_for_no_archive(tmp_path: Path) -> None:
    with answering(lambda _: Answer(body=CONTENT, seconds_between_bytes=0.3)) as server:
        started = time.monotonic()
        with pytest.raises(Cancelled):
            MirrorSource(mirrors_of(server), lambda: bool(server.requests)).fetch(package(), tmp_path / "a.deb")
        assert time.monotonic() - started < 6


def test_packages_go_through_the_supply_into_the_store(tmp_path: Path) -> None:
    contents = {f"p{number}": b"!<arch>\n%d" % number for number in range(8)}
    packages = [package(name, content) for name, content in contents.items()]
    debs = DebStore(tmp_path / "debs")
    files = {f"/debian/{one.path}": contents[one.name] for one in packages}
    with archive(files) as (mirrors, _):
        supply = Supply(debs, [MirrorSource(mirrors)])
        supply.bring(packages)
        assert supply.brought == {"the Debian archive": 8}
        with pytest.raises(MaterialGone, match=r"hello 2\.10-3 .*asked: the Debian archive"):
            supply.bring([package()])
    assert all(debs.verified(one).read_bytes() == contents[one.name] for one in packages)
