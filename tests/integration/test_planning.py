"""Planning against the real Debian archive, wherever this host's apt finds it, with the real apt."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from builder.errors import Cancelled
from builder.planning.apt import (
    AptArchive,
    ArchiveUnavailable,
    PackagesConflict,
    PackageUnknown,
    Resolved,
    SuiteUnknown,
)
from builder.planning.debs import DebStore
from builder.planning.flat import write_flat_archive
from builder.planning.mirrors import Mirrors, find_mirrors
from builder.process import run
from tests.integration.registry_server import free_port

INSTALLED = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 99:1
Maintainer: x

"""


def archive(
    directory: Path,
    suite: str = "trixie",
    components: Sequence[str] = ("main",),
    mirrors: Mirrors | None = None,
    index_seconds: float = 3600,
) -> AptArchive:
    return AptArchive(
        directory / "apt",
        mirrors=mirrors or find_mirrors(None, None),
        suite=suite,
        components=components,
        architecture="amd64",
        debs=DebStore(directory / "debs"),
        index_seconds=index_seconds,
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planning")


@pytest.fixture(scope="module")
def trixie(directory: Path) -> AptArchive:
    fetched = archive(directory)
    fetched.refresh()
    return fetched


@pytest.fixture(scope="module")
def hello(trixie: AptArchive) -> Resolved:
    return trixie.resolve(["hello"])


class TestIndexes:
    def test_are_named_by_the_digest_of_what_was_signed(self, directory: Path, trixie: AptArchive) -> None:
        found = {archive.suite: archive for archive in trixie.refresh()}
        assert set(found) == {"trixie", "trixie-updates", "trixie-security"}
        digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("apt/*/lists/*_InRelease")}
        assert {archive.release_sha256 for archive in found.values()} <= digests
        assert all(archive.date.endswith("UTC") for archive in found.values())

    def test_are_not_fetched_again_while_they_are_recent(self, trixie: AptArchive) -> None:
        started = time.monotonic()
        trixie.refresh()
        assert time.monotonic() - started < 0.5

    def test_state_of_a_digest_what_resolving_gives(self, trixie: AptArchive, hello: Resolved) -> None:
        digests = [package.sha256 for package in hello.packages]
        assert set(trixie.stated([*digests, "0" * 64])) == set(hello.packages)

    def test_that_could_not_be_fetched_are_never_taken_for_current(self, directory: Path, tmp_path: Path) -> None:
        port = free_port()
        dead = Mirrors(f"http://127.0.0.1:{port}/debian", f"http://127.0.0.1:{port}/security")
        with pytest.raises(ArchiveUnavailable, match="trixie could not be fetched") as caught:
            archive(tmp_path, mirrors=dead).refresh()
        assert caught.value.retryable
        assert "GOLDSMITH_DEBIAN_MIRROR" in (caught.value.hint or "")
        assert list(tmp_path.glob("apt/*/refreshed")) == []

    def test_of_a_suite_that_is_none_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteUnknown, match="no suite 'trixi'"):
            archive(tmp_path, suite="trixi").refresh()

    def test_of_a_component_that_is_none_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteUnknown, match="'trixie' has no component 'mian'"):
            archive(tmp_path, components=("main", "mian")).refresh()


class TestResolving:
    def test_names_every_package_and_keeps_it_verified(self, directory: Path, hello: Resolved) -> None:
        names = [package.name for package in hello.packages]
        assert {"hello", "libc6"} <= set(names)
        assert names == sorted(names)
        debs = DebStore(directory / "debs")
        for package in hello.packages:
            path = debs.verified(package)
            assert path.stat().st_size == package.size
            said = run(["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", path], timeout=30)
            assert said.stdout.decode() == f"{package.name} {package.version} {package.architecture}"

    def test_dates_the_whole_by_its_newest_package(self, hello: Resolved) -> None:
        assert 1_500_000_000 < hello.newest < time.time()

    def test_gives_the_same_again_without_fetching(self, directory: Path, trixie: AptArchive, hello: Resolved) -> None:
        before = {path.name: path.stat().st_ino for path in (directory / "debs").iterdir()}
        assert trixie.resolve(["hello"]) == hello
        assert {path.name: path.stat().st_ino for path in (directory / "debs").iterdir()} == before

    def test_fetches_only_what_is_missing(self, directory: Path, trixie: AptArchive, hello: Resolved) -> None:
        debs = DebStore(directory / "debs")
        package = next(package for package in hello.packages if package.name == "hello")
        others = {path.name: path.stat().st_ino for path in (directory / "debs").iterdir()}
        debs.path(package.sha256).unlink()
        assert trixie.resolve(["hello"]) == hello
        after = {path.name: path.stat().st_ino for path in (directory / "debs").iterdir()}
        assert after.pop(f"{package.sha256}.deb")
        others.pop(f"{package.sha256}.deb")
        assert after == others

    def test_adds_only_what_the_base_lacks(self, trixie: AptArchive) -> None:
        added = trixie.resolve(["hello"], status=INSTALLED)
        assert [package.name for package in added.packages] == ["hello"]

    def test_of_a_given_version_gives_that_version(self, trixie: AptArchive, hello: Resolved) -> None:
        version = next(package.version for package in hello.packages if package.name == "hello")
        assert trixie.resolve([f"hello={version}"]) == hello

    def test_of_nothing_is_nothing(self, trixie: AptArchive) -> None:
        assert trixie.resolve([]) == Resolved((), 0)

    def test_leaves_nothing_of_its_own_behind(self, directory: Path, trixie: AptArchive, hello: Resolved) -> None:
        trixie.resolve(["hello"])
        left = [path.name for path in directory.glob("apt/*/*")]
        assert not [name for name in left if name.startswith(("resolve-", "apt-"))]

    def test_takes_nothing_of_the_hosts_own_configuration(self, trixie: AptArchive, hello: Resolved) -> None:
        # The host has libc6 installed; the paper system has not.
        assert "libc6" in {package.name for package in hello.packages}
        assert "hello" not in run(["dpkg-query", "--show"], timeout=30).stdout.decode().split()


class TestRefusals:
    def test_an_unknown_package_is_told_with_the_nearest(self, trixie: AptArchive) -> None:
        with pytest.raises(PackageUnknown) as caught:
            trixie.resolve(["hello", "ngnix-light", "no-such-thing-at-all-anywhere"])
        first, second = caught.value.errors
        assert (first.field, first.hint) == ("spec.packages[1]", "did you mean 'nginx-light'?")
        assert (second.field, second.hint) == ("spec.packages[2]", None)

    def test_an_unknown_version_is_told(self, trixie: AptArchive) -> None:
        with pytest.raises(PackageUnknown, match="hello has no version 1:0-1 in trixie") as caught:
            trixie.resolve(["hello=1:0-1"])
        assert caught.value.errors[0].field == "spec.packages[0]"

    @pytest.mark.parametrize("name", ["nginx.light", "ngin.", "l.bc6"])
    def test_a_dot_is_a_dot_and_no_pattern(self, trixie: AptArchive, name: str) -> None:
        with pytest.raises(PackageUnknown):
            trixie.resolve([name])

    def test_a_name_that_others_only_provide_is_told(self, trixie: AptArchive) -> None:
        with pytest.raises(PackageUnknown, match="'mail-transport-agent' is no package of trixie"):
            trixie.resolve(["mail-transport-agent"])

    def test_packages_that_exclude_each_other_are_told(self, trixie: AptArchive) -> None:
        with pytest.raises(PackagesConflict):
            trixie.resolve(["postfix", "exim4-daemon-light"])

    def test_a_cancelled_build_does_not_wait_for_apt(self, directory: Path) -> None:
        stopped = archive(directory)
        stopped._should_stop = lambda: True
        with pytest.raises(Cancelled):
            stopped.resolve(["hello"])


def _resolve_in_another_process(directory: Path, answers: multiprocessing.Queue[object]) -> None:
    try:
        one = archive(directory)
        one.refresh()
        answers.put([package.sha256 for package in one.resolve(["hello"]).packages])
    except BaseException as error:
        answers.put(repr(error))


def test_two_workers_resolve_at_once_into_one_store(tmp_path: Path, hello: Resolved) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[object] = context.Queue()
    workers = [context.Process(target=_resolve_in_another_process, args=(tmp_path, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert found == [[package.sha256 for package in hello.packages]] * 2
    debs = DebStore(tmp_path / "debs")
    for package in hello.packages:
        debs.verified(package)
    assert len(list((tmp_path / "debs").iterdir())) == len(hello.packages)


def test_the_flat_archive_is_read_by_apt_itself(directory: Path, hello: Resolved, tmp_path: Path) -> None:
    flat = tmp_path / "archive"
    flat.mkdir()
    write_flat_archive(flat, hello.packages, DebStore(directory / "debs"))
    for part in ("lists/partial", "cache/archives/partial", "state"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "status").touch()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{flat} ./\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir "{tmp_path}"; Dir::Etc::SourceList "{tmp_path}/sources.list"; Dir::Etc::Parts "/dev/null";'
        f'Dir::Etc::SourceParts "/dev/null"; Dir::State::Lists "{tmp_path}/lists"; Dir::State "{tmp_path}/state";'
        f'Dir::State::Status "{tmp_path}/status"; Dir::Cache "{tmp_path}/cache"; APT::Sandbox::User "root";'
        'APT::Architecture "amd64"; APT::Architectures { "amd64"; }; APT::Install-Recommends "false";'
    )
    env = {"APT_CONFIG": os.fspath(tmp_path / "apt.conf")}
    run(["apt-get", "update", "--error-on=any"], timeout=60, env=env)
    run(["apt-get", "install", "--yes", "--download-only", "hello"], timeout=60, env=env)
    fetched = {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.glob("cache/archives/*.deb")}
    assert fetched == {package.sha256 for package in hello.packages}
