"""Taking builds in with locks: one that fits or none, first the base that it names, each purpose in its own queue."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from builder.pipeline.submission import Asked, House, RepositoryReserved, submit
from builder.planning.agreement import LockStale, requested
from builder.planning.keys import build_key
from builder.planning.lock import Lock, LockedBase
from builder.planning.lockfile import LockInvalid, format_lock
from builder.recipes.catalogue import Catalogue
from builder.recipes.model import Recipe
from builder.recipes.reading import read_recipe
from builder.store import builds
from builder.store.database import Database
from builder.store.schema import Build, OutboxRow, Release
from builder.store.states import BUILD, PATHS, RELEASE, SCAN, STAGES, Purpose, Stage, State
from tests.unit.locks import package
from tests.unit.recipe_texts import recipe_text

pytest_plugins = ["tests.unit.databases"]

REGISTRY = "registry.test"
RELEASED, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NUMBERS = count(1)


@pytest.fixture
def database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    found = Database(f"sqlite:///{tmp_path / 'goldsmith.db'}")
    yield found
    found.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "recipes"
    made.mkdir()
    for name, base in (("debian", None), ("web", "debian")):
        (made / f"{name}.yaml").write_text(recipe_text(name, base))
    return made


@pytest.fixture
def catalogue(directory: Path) -> Catalogue:
    return Catalogue(directory)


def lock_of(recipe: Recipe, base: str = RELEASED, epoch: int = 1) -> Lock:
    """What resolving gave: on Debian, or on the release of the base with a digest."""
    if recipe.spec.base.recipe:
        start = LockedBase(suite="trixie", architecture="amd64", image=base, recipe=recipe.spec.base.recipe)
    else:
        start = LockedBase(suite="trixie", architecture="amd64", packages=(package("apt"),))
    return Lock(builder="goldsmith 0", epoch=epoch, requested=requested(recipe), base=start)


def lock_beside(directory: Path, catalogue: Catalogue, name: str, **changes: Any) -> Lock:
    """Lay a recipe's own lock beside it."""
    made = lock_of(catalogue.get(name).recipe).model_copy(update=changes)
    (directory / f"{name}.lock.json").write_text(format_lock(made))
    return made


def taken_in(database: Database, catalogue: Catalogue, name: str, **asked: Any) -> str:
    wanted = Asked(catalogue.get(name).recipe, "catalogue", "ci", **asked)
    with database.write() as session:
        return submit(session, catalogue, House(REGISTRY, network_steps=True), wanted).id


def release(
    database: Database,
    catalogue: Catalogue,
    name: str,
    digest: str,
    *,
    key: str | None = None,
    registry: str = REGISTRY,
) -> None:
    """A build that was released some time ago."""
    listed = catalogue.get(name)
    with database.write() as session:
        build = builds.submit(session, builds.Submission(name, listed.digest, "{}", "catalogue", "ci"))
        build.state = State.RELEASED
        session.add(
            Release(
                build_id=build.id, digest=digest, recipe_name=name, recipe_digest=listed.digest, build_key=key,
                registry_host=registry, repository=listed.recipe.spec.publish.repository, tags=[],
                released_at=float(next(NUMBERS)),
            )
        )  # fmt: skip


def get(database: Database, build_id: str) -> Build:
    with database.read() as session:
        return builds.get(session, build_id)


def queue_of(database: Database, build_id: str) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(OutboxRow.queue).where(OutboxRow.build_id == build_id)))


def nothing_is_left(database: Database) -> bool:
    with database.read() as session:
        return all(session.scalar(select(func.count()).select_from(table)) == 0 for table in (Build, OutboxRow))


class TestALock:
    def test_is_kept_with_the_build_byte_for_byte(self, database: Database, catalogue: Catalogue) -> None:
        lock = lock_of(catalogue.get("debian").recipe)
        build = get(database, taken_in(database, catalogue, "debian", lock=lock))
        assert build.lock == lock.canonical().decode()
        assert Lock.model_validate_json(build.lock).digest == lock.digest

    def test_that_is_stale_is_refused_and_nothing_is_left(self, database: Database, catalogue: Catalogue) -> None:
        stale = lock_of(catalogue.get("debian").recipe)
        asked = requested(catalogue.get("debian").recipe).model_copy(update={"packages": ("tini",)})
        with pytest.raises(LockStale, match=r"the lock of debian: spec\.packages"):
            taken_in(database, catalogue, "debian", lock=stale.model_copy(update={"requested": asked}))
        assert nothing_is_left(database)

    def test_that_is_stale_beside_a_base_is_refused_by_its_recipes_name_and_nothing_is_left(
        self, database: Database, catalogue: Catalogue, directory: Path
    ) -> None:
        asked = requested(catalogue.get("debian").recipe).model_copy(update={"packages": ("tini",)})
        lock_beside(directory, catalogue, "debian", requested=asked)
        with pytest.raises(LockStale, match="the lock of debian: "):
            taken_in(database, catalogue, "web")
        assert nothing_is_left(database)

    def test_that_cannot_be_read_beside_a_base_is_refused_by_its_files_name_and_nothing_is_left(
        self, database: Database, catalogue: Catalogue, directory: Path
    ) -> None:
        (directory / "debian.lock.json").write_text("{")
        with pytest.raises(LockInvalid, match=r"^debian\.lock\.json: line 1"):
            taken_in(database, catalogue, "web")
        assert nothing_is_left(database)

    def test_of_another_recipe_is_refused(self, database: Database, catalogue: Catalogue) -> None:
        with pytest.raises(LockStale, match="the lock was made for another base"):
            taken_in(database, catalogue, "web", lock=lock_of(catalogue.get("debian").recipe))
        assert nothing_is_left(database)


class TestARecipeOfTheServiceThatIsSentWhole:
    """Its repository says that it is the service's: with another lock it would release another image there."""

    def sent(self, database: Database, catalogue: Catalogue, name: str, lock: Lock | None, **asked: Any) -> Build:
        wanted = Asked(
            catalogue.get(name).recipe, "request", "ci", lock=lock, lock_from_request=lock is not None, **asked
        )
        with database.write() as session:
            return submit(session, catalogue, House(REGISTRY, network_steps=True), wanted)

    def test_may_have_the_lock_beside_it(self, database: Database, catalogue: Catalogue, directory: Path) -> None:
        own = lock_beside(directory, catalogue, "debian")
        build = self.sent(database, catalogue, "debian", own)
        assert (build.lock, build.options) == (own.canonical().decode(), {"lock_from_request": True})

    def test_may_have_none(self, database: Database, catalogue: Catalogue, directory: Path) -> None:
        lock_beside(directory, catalogue, "debian")
        build = self.sent(database, catalogue, "debian", None)
        assert (build.lock, build.options) == (None, {})

    @pytest.mark.parametrize("change", [{"epoch": 2}, {"builder": "somebody"}])
    @pytest.mark.parametrize("forced", [False, True])
    def test_may_not_have_another(
        self, database: Database, catalogue: Catalogue, directory: Path, change: dict[str, Any], forced: bool
    ) -> None:
        other = lock_beside(directory, catalogue, "debian").model_copy(update=change)
        with pytest.raises(RepositoryReserved, match="'debian' is built here with its own lock") as caught:
            self.sent(database, catalogue, "debian", other, force=forced)
        assert "goldsmith build debian" in (caught.value.hint or "")
        assert nothing_is_left(database)

    def test_may_not_have_any_where_there_is_none_beside_it(self, database: Database, catalogue: Catalogue) -> None:
        with pytest.raises(RepositoryReserved):
            self.sent(database, catalogue, "debian", lock_of(catalogue.get("debian").recipe))
        assert nothing_is_left(database)

    def test_is_not_taken_in_with_a_lock_while_its_own_cannot_be_read(
        self, database: Database, catalogue: Catalogue, directory: Path
    ) -> None:
        (directory / "debian.lock.json").write_text("{")
        with pytest.raises(LockInvalid, match=r"^debian\.lock\.json: "):
            self.sent(database, catalogue, "debian", lock_of(catalogue.get("debian").recipe))
        assert nothing_is_left(database)

    def test_may_have_any_lock_that_fits_where_it_is_published_elsewhere(
        self, database: Database, catalogue: Catalogue, directory: Path
    ) -> None:
        lock_beside(directory, catalogue, "debian")
        mine = read_recipe(recipe_text("debian", None).replace("golden/debian", "mine/debian"))
        other = lock_of(mine, epoch=2)
        with database.write() as session:
            asked = Asked(mine, "request", "ci", lock=other, lock_from_request=True)
            build = submit(session, catalogue, House(REGISTRY, network_steps=True), asked)
        assert build.lock == other.canonical().decode()

    def test_has_a_base_whose_lock_is_the_services(
        self, database: Database, catalogue: Catalogue, directory: Path
    ) -> None:
        """Only the request's own lock has to be believed."""
        lock_beside(directory, catalogue, "debian")
        web = self.sent(database, catalogue, "web", lock_beside(directory, catalogue, "web"))
        assert web.options["lock_from_request"] is True
        assert "lock_from_request" not in get(database, str(web.waits_for)).options


class TestTheBaseThatALockNames:
    @pytest.fixture
    def lock(self, catalogue: Catalogue) -> Lock:
        return lock_of(catalogue.get("web").recipe, RELEASED)

    def test_is_not_waited_for_once_it_is_released(self, database: Database, catalogue: Catalogue, lock: Lock) -> None:
        release(database, catalogue, "debian", RELEASED)
        release(database, catalogue, "debian", OTHER)
        web = taken_in(database, catalogue, "web", lock=lock)
        assert (get(database, web).state, get(database, web).waits_for) == (State.QUEUED, None)

    def test_is_built_first_with_its_own_lock(
        self, database: Database, catalogue: Catalogue, directory: Path, lock: Lock
    ) -> None:
        own = lock_beside(directory, catalogue, "debian")
        web = get(database, taken_in(database, catalogue, "web", lock=lock))
        assert web.state == State.WAITING
        base = get(database, str(web.waits_for))
        assert (base.recipe_name, base.origin, base.requester, base.state) == ("debian", "base", "ci", State.QUEUED)
        assert base.lock == own.canonical().decode()

    def test_is_resolved_first_where_it_has_no_lock(self, database: Database, catalogue: Catalogue, lock: Lock) -> None:
        web = get(database, taken_in(database, catalogue, "web", lock=lock))
        assert get(database, str(web.waits_for)).lock is None

    def test_is_not_another_release_of_the_same_recipe(
        self, database: Database, catalogue: Catalogue, lock: Lock
    ) -> None:
        release(database, catalogue, "debian", OTHER)
        assert get(database, taken_in(database, catalogue, "web", lock=lock)).state == State.WAITING

    def test_is_not_a_release_in_another_registry(self, database: Database, catalogue: Catalogue, lock: Lock) -> None:
        release(database, catalogue, "debian", RELEASED, registry="elsewhere.test")
        assert get(database, taken_in(database, catalogue, "web", lock=lock)).state == State.WAITING

    def test_is_no_image_that_somebody_else_released(
        self, database: Database, catalogue: Catalogue, lock: Lock, directory: Path
    ) -> None:
        (directory / "mine.yaml").write_text(recipe_text("mine", None))
        release(database, catalogue, "mine", RELEASED)
        assert get(database, taken_in(database, catalogue, "web", lock=lock)).state == State.WAITING

    def test_is_waited_for_when_it_is_being_built_with_that_lock(
        self, database: Database, catalogue: Catalogue, directory: Path, lock: Lock
    ) -> None:
        own = lock_beside(directory, catalogue, "debian")
        running = taken_in(database, catalogue, "debian", lock=own)
        with database.write() as session:
            assert builds.claim(session, running, BUILD, "w", 60)
        assert get(database, taken_in(database, catalogue, "web", lock=lock)).waits_for == running

    def test_is_not_what_is_being_built_with_another_lock(
        self, database: Database, catalogue: Catalogue, directory: Path, lock: Lock
    ) -> None:
        own = lock_beside(directory, catalogue, "debian")
        others = [
            taken_in(database, catalogue, "debian"),
            taken_in(database, catalogue, "debian", lock=own.model_copy(update={"epoch": 2})),
        ]
        web = get(database, taken_in(database, catalogue, "web", lock=lock))
        assert web.waits_for not in (None, *others)
        assert get(database, str(web.waits_for)).lock == own.canonical().decode()


class TestWithoutALock:
    def test_a_base_that_was_released_from_its_own_lock_is_used(
        self, database: Database, catalogue: Catalogue, directory: Path
    ) -> None:
        own = lock_beside(directory, catalogue, "debian")
        release(database, catalogue, "debian", RELEASED, key=build_key(catalogue.get("debian").digest, own))
        assert get(database, taken_in(database, catalogue, "web")).state == State.QUEUED

    def test_a_base_whose_lock_was_renewed_is_built_anew(
        self, database: Database, catalogue: Catalogue, directory: Path
    ) -> None:
        old = lock_beside(directory, catalogue, "debian")
        release(database, catalogue, "debian", RELEASED, key=build_key(catalogue.get("debian").digest, old))
        new = lock_beside(directory, catalogue, "debian", epoch=2)
        web = get(database, taken_in(database, catalogue, "web"))
        assert get(database, str(web.waits_for)).lock == new.canonical().decode()

    def test_an_update_leaves_the_bases_lock_aside_too(
        self, database: Database, catalogue: Catalogue, directory: Path
    ) -> None:
        lock_beside(directory, catalogue, "debian")
        web = get(database, taken_in(database, catalogue, "web", update=True))
        assert get(database, str(web.waits_for)).lock is None

    def test_a_dry_run_of_an_update_leaves_the_locks_of_deeper_bases_aside(
        self, database: Database, catalogue: Catalogue, directory: Path
    ) -> None:
        (directory / "app.yaml").write_text(recipe_text("app", "web"))
        own = lock_beside(directory, catalogue, "debian")
        release(database, catalogue, "debian", RELEASED, key=build_key(catalogue.get("debian").digest, own))
        lock_beside(directory, catalogue, "debian", epoch=2)
        for update, first in ((False, ["debian", "web"]), (True, ["web"])):
            planned = get(database, taken_in(database, catalogue, "app", update=update, purpose=Purpose.PLAN))
            assert planned.options["builds_first"] == first


class TestPurposes:
    @pytest.mark.parametrize(
        ("purpose", "queue"),
        [
            (Purpose.RELEASE, "build"),
            (Purpose.LOCK, "resolve"),
            (Purpose.REBUILD, "rebuild"),
            (Purpose.COMPARE, "compare"),
        ],
    )
    def test_each_has_its_own_queue(
        self, database: Database, catalogue: Catalogue, purpose: Purpose, queue: str
    ) -> None:
        build_id = taken_in(database, catalogue, "debian", purpose=purpose)
        assert queue_of(database, build_id) == [queue]

    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("purpose", Purpose)
    def test_a_message_for_one_claims_no_build_of_another(
        self, database: Database, catalogue: Catalogue, purpose: Purpose, stage: Stage
    ) -> None:
        build_id = taken_in(database, catalogue, "debian", purpose=purpose)
        own = PATHS[purpose][0]
        with database.write() as session:
            claim = builds.claim(session, build_id, stage, "w", 60)
        assert (claim is not None) == (stage is own)
        assert get(database, build_id).state == (own.running if stage is own else State.QUEUED)

    def test_a_lock_waits_for_a_base_that_is_not_released_and_goes_on_in_its_own_queue(
        self, database: Database, catalogue: Catalogue
    ) -> None:
        web = taken_in(database, catalogue, "web", purpose=Purpose.LOCK)
        base = get(database, str(get(database, web).waits_for))
        assert (base.purpose, queue_of(database, base.id), queue_of(database, web)) == ("release", ["build"], [])
        for stage in (BUILD, SCAN, RELEASE):
            with database.write() as session:
                held = builds.claim(session, base.id, stage, "w", 60)
                assert held
                builds.complete(session, held)
        assert (get(database, web).state, queue_of(database, web)) == (State.QUEUED, ["resolve"])

    def test_a_base_that_is_only_being_locked_is_not_waited_for(self, database: Database, catalogue: Catalogue) -> None:
        locking = taken_in(database, catalogue, "debian", purpose=Purpose.LOCK)
        web = get(database, taken_in(database, catalogue, "web"))
        assert web.waits_for not in (None, locking)

    def test_a_recipe_of_the_service_may_be_locked_as_somebody_edits_it_but_not_released(
        self, database: Database, catalogue: Catalogue
    ) -> None:
        edited = read_recipe(recipe_text("debian", None) + "  packages: [tini]\n")
        house = House(REGISTRY, network_steps=True)
        with database.write() as session:
            made = submit(session, catalogue, house, Asked(edited, "request", "ci", purpose=Purpose.LOCK))
            assert made.purpose == Purpose.LOCK
        with pytest.raises(RepositoryReserved), database.write() as session:
            submit(session, catalogue, house, Asked(edited, "request", "ci"))

    def test_a_forced_build_is_noted_as_such(self, database: Database, catalogue: Catalogue) -> None:
        assert get(database, taken_in(database, catalogue, "debian", force=True)).options["force"] is True
        assert "force" not in get(database, taken_in(database, catalogue, "debian")).options
