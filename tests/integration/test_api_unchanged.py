"""A request for what was released before is answered by that release, as long as a real registry still has it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from builder.api.app import create_app
from builder.image.digests import digest_of
from builder.image.documents import CONFIG, Descriptor, ImageConfig, Manifest, RootFS
from builder.pipeline.evidence import kept
from builder.pipeline.services import Services
from builder.planning.agreement import requested
from builder.planning.keys import build_key
from builder.planning.lock import Lock, LockedBase
from builder.planning.lockfile import format_lock, lock_data, lock_path
from builder.policy.facts import MEDIA_TYPE
from builder.recipes.catalogue import Catalogue, Listed
from builder.settings import Settings
from builder.store import attachments, builds
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.schema import Build, Release
from builder.store.states import State
from tests.integration.registry_server import free_port, running_registry
from tests.unit.api import RECIPE
from tests.unit.evidence import build_evidence, judged_evidence, whole_evidence
from tests.unit.judged import facts
from tests.unit.locks import package

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

NUMBERS = count(1)
POLICY = "apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {name: acme, version: '1'}\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def settings(database_url: str, tmp_path: Path, registry: str) -> Settings:
    directory = tmp_path / "recipes"
    directory.mkdir()
    (tmp_path / "callers").mkdir()
    for file, base in (
        ("recipes/web", "debian: {suite: trixie}"),
        ("recipes/app", "recipe: web"),
        ("callers/own", "debian: {suite: trixie}"),
        ("callers/own-app", "recipe: web"),
    ):
        name = Path(file).name
        text = RECIPE.replace("golden/NAME", f"golden/{name}{next(NUMBERS)}").replace("NAME", name)
        (tmp_path / f"{file}.yaml").write_text(text.replace("debian: {suite: trixie}", base))
    (tmp_path / "policy.yaml").write_text(POLICY)
    return Settings(
        database_url=database_url,
        recipes_directory=directory,
        state_directory=tmp_path,
        registry=registry,
        policy=tmp_path / "policy.yaml",
    )


@dataclass(frozen=True)
class House:
    """The service as it stands: what it released, what it is asked for, what it answers.

    It is asked for its own recipes by their names; the callers' (`own`, `own-app`) are sent whole.
    """

    FACTS: ClassVar = facts()
    client: TestClient
    services: Services
    catalogue: Catalogue
    callers: Catalogue

    @property
    def store(self) -> Database:
        return self.services.database

    def listed(self, name: str) -> Listed:
        return (self.catalogue if name in self.catalogue.names() else self.callers).get(name)

    def asked(self, name: str) -> str | dict[str, Any]:
        if name in self.catalogue.names():
            return name
        return self.callers.get(name).recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def change(self, name: str, line: str) -> None:
        with self.listed(name).path.open("a") as file:
            file.write(f"  {line}\n")

    def lock_of(self, name: str, base: str | None = None, epoch: int = 1) -> Lock:
        recipe = self.listed(name).recipe
        packages = () if base else (package("apt"),)
        start = LockedBase(
            suite="trixie", architecture="amd64", packages=packages, image=base, recipe=recipe.spec.base.recipe
        )
        return Lock(builder="goldsmith 0", epoch=epoch, requested=requested(recipe), base=start)

    def beside(self, name: str, lock: Lock) -> None:
        lock_path(self.catalogue.get(name).path).write_text(format_lock(lock))

    def with_lock(self, name: str, lock: Lock) -> dict[str, Any]:
        """What a request says to have a lock used: nothing if it is the service's recipe, whose lock lies beside."""
        if name not in self.catalogue.names():
            return {"lock": lock_data(lock)}
        self.beside(name, lock)
        return {}

    def push(self, name: str) -> str:
        """An image, where releases of a recipe are."""
        author = f"{name} {next(NUMBERS)}"
        config = ImageConfig(architecture="amd64", os="linux", author=author, rootfs=RootFS(diff_ids=())).to_bytes()
        manifest = Manifest(config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)), layers=())
        place = self.services.released(self.listed(name).recipe.spec.publish.repository)
        return self.services.registry.images.push(place, manifest, {digest_of(config): config}).digest

    def release(
        self, name: str, lock: Lock, *, given: bool = False, age: float = 0, key: str | None = None
    ) -> tuple[str, str]:
        """A release that ended now, of a build that was asked for `age` seconds ago. Answers its build and digest."""
        listed, digest = self.listed(name), self.push(name)
        with self.store.write() as session:
            build = builds.submit(session, Submission(name, listed.digest, "{}", "catalogue", "earlier"))
            build.state, build.created_at = State.RELEASED, time.time() - age
            build.evidence = whole_evidence(digest) | {
                "build": kept(build_evidence(digest, lock, given=given)), "scan": kept(judged_evidence(self.FACTS)),
            }  # fmt: skip
            attachments.attach(session, build.id, Kind.FACTS, MEDIA_TYPE, self.FACTS.to_bytes())
            session.add(
                Release(
                    build_id=build.id, digest=digest, recipe_name=name, recipe_digest=listed.digest,
                    registry_host=self.services.settings.registry, tags=["latest"], released_at=time.time(),
                    repository=listed.recipe.spec.publish.repository, build_key=key or build_key(listed.digest, lock),
                )
            )  # fmt: skip
            return build.id, digest

    def forget(self, name: str, digest: str) -> None:
        place = self.services.released(self.listed(name).recipe.spec.publish.repository)
        assert self.services.registry.manifests.delete(place.at(digest))

    def count(self) -> int:
        with self.store.read() as session:
            return session.scalar(select(func.count()).select_from(Build)) or 0

    def is_answered_by(self, build_id: str, name: str = "web", **asked: Any) -> None:
        before = self.count()
        answer = self.client.post("/v1/builds", json={"recipe": self.asked(name), **asked})
        assert answer.status_code == 200, answer.text
        assert answer.headers["Location"] == f"/v1/builds/{build_id}"
        view = answer.json()
        assert (view["id"], view["state"], view["requester"]) == (build_id, "released", "earlier")
        assert view == self.client.get(f"/v1/builds/{build_id}").json()
        assert self.count() == before

    def is_built(self, name: str = "web", **asked: Any) -> dict[str, Any]:
        before = self.count()
        answer = self.client.post("/v1/builds", json={"recipe": self.asked(name), **asked})
        assert answer.status_code == 202, answer.text
        view: dict[str, Any] = answer.json()
        assert (view["state"], view["requester"]) == ("queued", "ci")
        assert answer.headers["Location"] == f"/v1/builds/{view['id']}"
        assert self.count() == before + 1
        return view


@pytest.fixture
def house(client: TestClient, app: FastAPI, settings: Settings) -> House:
    callers = Catalogue(settings.recipes_directory.parent / "callers")
    return House(client, app.state.services, app.state.catalogue, callers)


EITHER = pytest.mark.parametrize("name", ["web", "own"])


class TestWithALock:
    @EITHER
    def test_the_same_lock_is_answered_whenever_it_was(self, house: House, name: str) -> None:
        lock = house.lock_of(name)
        build_id, _ = house.release(name, lock, given=True, age=1e6)
        house.is_answered_by(build_id, name, **house.with_lock(name, lock))

    def test_the_lock_beside_a_recipe_counts_like_one_that_is_given(self, house: House) -> None:
        lock = house.lock_of("web")
        build_id, _ = house.release("web", lock, age=1e6)
        house.beside("web", lock)
        house.is_answered_by(build_id)
        house.is_answered_by(build_id, lockUse="require")

    @EITHER
    def test_a_lock_that_differs_in_nothing_that_decides_is_the_same(self, house: House, name: str) -> None:
        lock = house.lock_of(name)
        build_id, _ = house.release(name, lock, age=1e6)
        same = lock.model_copy(update={"builder": "goldsmith 9"})
        house.is_answered_by(build_id, name, **house.with_lock(name, same))

    @EITHER
    def test_another_lock_is_built(self, house: House, name: str) -> None:
        house.release(name, house.lock_of(name))
        assert house.is_built(name, **house.with_lock(name, house.lock_of(name, epoch=2)))["locked"] is True

    @EITHER
    def test_the_newest_of_many_releases_answers(self, house: House, name: str) -> None:
        lock = house.lock_of(name)
        house.release(name, lock)
        build_id, _ = house.release(name, lock)
        house.is_answered_by(build_id, name, **house.with_lock(name, lock))

    @pytest.mark.parametrize("name", ["app", "own-app"])
    def test_a_base_that_was_released_anew_does_not_matter_for_the_lock_names_its_own(
        self, house: House, name: str
    ) -> None:
        _, base = house.release("web", house.lock_of("web"))
        lock = house.lock_of(name, base)
        build_id, _ = house.release(name, lock)
        house.release("web", house.lock_of("web", epoch=2))
        house.is_answered_by(build_id, name, **house.with_lock(name, lock))


class TestWithoutALock:
    def test_a_resolution_that_is_still_current_answers(self, house: House) -> None:
        build_id, _ = house.release("web", house.lock_of("web"), age=14 * 60)
        house.is_answered_by(build_id)

    def test_one_that_is_not_is_resolved_anew(self, house: House) -> None:
        house.release("web", house.lock_of("web"), age=16 * 60)
        assert house.is_built()["locked"] is False

    def test_an_image_from_somebodys_lock_answers_nobody_who_gave_none(self, house: House) -> None:
        house.release("web", house.lock_of("web"), given=True)
        house.is_built()

    def test_an_update_is_not_answered_from_the_lock_that_it_leaves_aside(self, house: House) -> None:
        lock = house.lock_of("web")
        house.release("web", lock, given=True)
        house.beside("web", lock)
        house.is_built(lockUse="update")

    def test_what_another_version_built_is_built_anew(self, house: House) -> None:
        house.release("web", house.lock_of("web"), key="sha256:" + "0" * 64)
        house.is_built()

    def test_the_same_base_answers_and_one_that_was_released_anew_does_not(self, house: House) -> None:
        _, base = house.release("web", house.lock_of("web"))
        build_id, _ = house.release("app", house.lock_of("app", base))
        house.is_answered_by(build_id, "app")
        house.release("web", house.lock_of("web", epoch=2))
        house.is_built("app")

    def test_a_base_whose_lock_was_renewed_does_not_answer_either(self, house: House) -> None:
        own = house.lock_of("web")
        house.beside("web", own)
        _, base = house.release("web", own, given=True)
        build_id, _ = house.release("app", house.lock_of("app", base))
        house.is_answered_by(build_id, "app")
        house.beside("web", house.lock_of("web", epoch=2))
        answer = house.client.post("/v1/builds", json={"recipe": "app"})
        assert (answer.status_code, answer.json()["state"]) == (202, "waiting")


class TestNever:
    @EITHER
    def test_when_it_is_forced(self, house: House, name: str) -> None:
        lock = house.lock_of(name)
        house.release(name, lock)
        for asked in ({}, house.with_lock(name, lock)):
            view = house.is_built(name, force=True, **asked)
            with house.store.read() as session:
                assert builds.get(session, view["id"]).options["force"] is True

    @EITHER
    def test_when_the_recipe_has_changed(self, house: House, name: str) -> None:
        house.release(name, house.lock_of(name))
        house.change(name, "environment: {A: b}")
        house.is_built(name)
        house.is_built(name, **house.with_lock(name, house.lock_of(name)))

    @EITHER
    def test_when_a_step_has_a_network_for_what_it_fetches_is_in_no_lock(self, house: House, name: str) -> None:
        house.change(name, "run: [{command: [fetch], network: true}]")
        lock = house.lock_of(name)
        house.release(name, lock)
        house.is_built(name)
        house.is_built(name, **house.with_lock(name, lock))

    @EITHER
    def test_when_the_registry_has_lost_the_image(self, house: House, name: str) -> None:
        lock = house.lock_of(name)
        _, digest = house.release(name, lock)
        house.forget(name, digest)
        house.is_built(name)
        house.is_built(name, **house.with_lock(name, lock))

    @EITHER
    def test_when_the_policy_has_become_one_that_it_would_not_pass(
        self, house: House, settings: Settings, name: str
    ) -> None:
        lock = house.lock_of(name)
        build_id, _ = house.release(name, lock)
        assert settings.policy is not None
        for rules, answered in (("imageSize: {maximumUnpackedBytes: 3000}", True),
                                ("imageSize: {maximumUnpackedBytes: 2999}", False)):  # fmt: skip
            settings.policy.write_text(POLICY + f"spec: {{rules: {{{rules}}}}}\n")
            for asked in ({}, house.with_lock(name, lock)):
                if answered:
                    house.is_answered_by(build_id, name, **asked)
                else:
                    house.is_built(name, **asked)

    def test_for_a_lock_alone(self, house: House) -> None:
        house.release("web", house.lock_of("web"))
        answer = house.client.post("/v1/locks", json={"recipe": "web"})
        assert (answer.status_code, answer.json()["purpose"]) == (202, "lock")


@pytest.fixture
def elsewhere(settings: Settings, house: House) -> Iterator[Callable[[str], House]]:
    """The same service, its registry at another address: what it released is said to be there."""
    clients: list[TestClient] = []

    def moved(address: str) -> House:
        lock = house.lock_of("web")
        build_id, _ = house.release("web", lock)
        with house.store.write() as session:
            session.get_one(Release, build_id).registry_host = address
        app = create_app(settings.model_copy(update={"registry": address}))
        client = TestClient(app, headers={"Authorization": house.client.headers["Authorization"]})
        clients.append(client)
        return replace(house, client=client, services=app.state.services)

    yield moved
    for client in clients:
        client.close()


class TestInDoubt:
    """It is built: a request is never refused because a registry is away."""

    def test_a_registry_that_does_not_answer(self, elsewhere: Callable[[str], House]) -> None:
        elsewhere(f"127.0.0.1:{free_port()}").is_built()

    def test_a_registry_that_hangs_keeps_nobody_waiting(self, elsewhere: Callable[[str], House]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            there = elsewhere(f"127.0.0.1:{silent.getsockname()[1]}")
            started = time.monotonic()
            there.is_built()
            assert time.monotonic() - started < 5

    def test_a_release_in_another_registry(self, house: House, elsewhere: Callable[[str], House]) -> None:
        elsewhere("elsewhere.test:5000")
        house.is_built()
