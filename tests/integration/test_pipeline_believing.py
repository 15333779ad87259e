"""A lock from a request is believed as far as the real archive's signed indexes say the same, now or before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.pipeline.believing import LockNotBelieved, refuse_unbelieved, remember, stated
from builder.pipeline.journal import Journal
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.watch import Watch
from builder.planning.apt import AptArchive, ArchiveUnavailable, SuiteUnknown
from builder.planning.lock import Lock, LockedPackage
from builder.recipes.reading import read_recipe
from builder.settings import Settings
from builder.store import builds, packages
from builder.store.builds import Submission
from builder.store.packages import Stated
from builder.store.states import BUILD
from tests.integration.registry_server import free_port
from tests.unit.locks import lock

RECIPE = read_recipe(
    "apiVersion: goldsmith/v1\nkind: Image\nmetadata: {name: web}\n"
    "spec:\n  base: {debian: {suite: trixie}}\n  packages: [hello]\n  publish: {repository: team/web}\n"
)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the indexes are kept: fetched once for all tests."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def services(state: Path, tmp_path: Path) -> Iterator[Services]:
    made = Services(Settings(state_directory=state, database_url=f"sqlite:///{tmp_path / 'a.db'}"))
    made.database.migrate()
    yield made
    made.database.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Services]:
    """Of a worker that reaches no archive."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    settings = Settings(
        state_directory=tmp_path, database_url=f"sqlite:///{tmp_path / 'b.db'}",
        debian_mirror=nowhere, debian_security_mirror=nowhere,
    )  # fmt: skip
    made = Services(settings)
    made.database.migrate()
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def real(state: Path) -> Lock:
    """What the archive has today: libc6 and its like for the base, hello on it."""
    services = Services(Settings(state_directory=state, database_url=f"sqlite:///{state / 'unused.db'}"))
    archive = AptArchive(
        services.archive_directory, mirrors=services.mirrors, suite="trixie", components=["main"],
        architecture="amd64", debs=services.debs, index_seconds=3600,
    )  # fmt: skip
    archive.refresh()
    found = archive.resolve(["hello"]).packages
    hello = next(package for package in found if package.name == "hello")
    others = tuple(package for package in found if package != hello)
    return lock(base=lock().base.model_copy(update={"packages": others}), packages=(hello,))


def task(services: Services) -> Task:
    with services.database.write() as session:
        build = builds.submit(session, Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci"))
        claim = builds.claim(session, build.id, BUILD, "w", 60)
        assert claim
    journal = Journal(services.database, claim, 4096)
    return Task(build, RECIPE, None, claim, journal, Watch(services.database, claim, journal, 60))


def unknown(services: Services, given: Lock) -> list[Stated]:
    with services.database.read() as session:
        return packages.unknown(session, stated(given))


def with_packages(given: Lock, *added: LockedPackage) -> Lock:
    return given.model_copy(update={"packages": added})


def package(number: int) -> LockedPackage:
    return LockedPackage(name=f"brought{number}", version="1.0", architecture="amd64", size=9, sha256=f"{number:064x}")


class TestWhatIsKnown:
    def test_is_believed_without_asking_an_archive(self, alone: Services) -> None:
        remember(alone, lock())
        refuse_unbelieved(alone, task(alone), lock())
        assert list(alone.archive_directory.iterdir()) == []

    def test_of_no_package_at_all_there_is_nothing_to_doubt(self, alone: Services) -> None:
        base = lock().base.model_copy(update={"suite": "", "packages": ()})
        refuse_unbelieved(alone, task(alone), lock(base=base, packages=()))
        assert list(alone.archive_directory.iterdir()) == []


class TestWhatIsNotKnown:
    def test_is_neither_believed_nor_refused_while_the_archive_does_not_answer(self, alone: Services) -> None:
        with pytest.raises(ArchiveUnavailable) as caught:
            refuse_unbelieved(alone, task(alone), lock())
        assert caught.value.retryable
        assert unknown(alone, lock()) == stated(lock())

    def test_is_believed_and_remembered_where_todays_indexes_say_it(self, services: Services, real: Lock) -> None:
        assert {"hello", "libc6"} <= {one.name for one in unknown(services, real)}
        refuse_unbelieved(services, task(services), real)
        assert unknown(services, real) == []

    def test_is_looked_up_where_only_a_part_is_known(self, services: Services, real: Lock) -> None:
        remember(services, with_packages(real))
        assert [one.name for one in unknown(services, real)] == ["hello"]
        refuse_unbelieved(services, task(services), real)
        assert unknown(services, real) == []

    @pytest.mark.parametrize(
        "lie", [{"name": "libc6"}, {"version": "99.0-1"}, {"architecture": "all"}, {"sha256": "0" * 64}]
    )
    def test_is_refused_where_the_indexes_say_something_else(
        self, services: Services, real: Lock, lie: dict[str, str]
    ) -> None:
        [hello] = real.packages
        told = hello.model_copy(update=lie)
        with pytest.raises(LockNotBelieved, match=r"^the lock of web: ") as caught:
            refuse_unbelieved(services, task(services), with_packages(real, told))
        named = f"{told.name} {told.version} ({told.architecture}) with sha256 {told.sha256[:12]}"
        assert [fault.message.startswith(named) for fault in caught.value.errors] == [True]
        assert named in caught.value.detail
        assert "goldsmith recipe lock" in (caught.value.hint or "")
        assert not caught.value.retryable

    def test_is_refused_however_much_else_is_known_and_what_the_indexes_say_is_remembered(
        self, services: Services, real: Lock
    ) -> None:
        brought = with_packages(real, *real.packages, package(1))
        for _ in range(2):
            with pytest.raises(LockNotBelieved):
                refuse_unbelieved(services, task(services), brought)
            assert [one.name for one in unknown(services, brought)] == ["brought1"]

    def test_is_refused_in_a_base_too(self, services: Services, real: Lock) -> None:
        base = real.base.model_copy(update={"packages": (*real.base.packages, package(1))})
        with pytest.raises(LockNotBelieved, match="brought1"):
            refuse_unbelieved(services, task(services), real.model_copy(update={"base": base}))

    def test_is_named_package_by_package_up_to_twenty(self, services: Services, real: Lock) -> None:
        with pytest.raises(LockNotBelieved) as few:
            refuse_unbelieved(services, task(services), with_packages(real, *map(package, range(4))))
        assert [fault.message.split()[0] for fault in few.value.errors] == [f"brought{number}" for number in range(4)]
        with pytest.raises(LockNotBelieved) as many:
            refuse_unbelieved(services, task(services), with_packages(real, *map(package, range(30))))
        assert len(many.value.errors) == 20

    def test_is_believed_of_todays_indexes_whatever_was_stated_of_the_digest_before(
        self, services: Services, real: Lock
    ) -> None:
        hello = stated(real)[-1]
        with services.database.write() as session:
            packages.remember(session, [replace(hello, version="0.1-1")])
        refuse_unbelieved(services, task(services), real)

    @pytest.mark.parametrize("change", [{"suite": ""}, {"architecture": "amd64.x"}])
    def test_is_refused_where_it_names_no_suite_of_an_archive(self, alone: Services, change: dict[str, str]) -> None:
        base = lock().base.model_copy(update=change)
        with pytest.raises(SuiteUnknown):
            refuse_unbelieved(alone, task(alone), lock(base=base))
        assert list(alone.archive_directory.iterdir()) == []
