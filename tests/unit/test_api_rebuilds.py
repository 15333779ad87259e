"""Rebuilds through the API: of what was released here, offline or not, and listed with their image."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from builder.api.bodies import MAX_BODY
from builder.pipeline.evidence import DifferingPath, RebuildEvidence, kept
from builder.pipeline.rebuild import NotReproduced
from builder.store import builds
from builder.store.database import Database
from builder.store.schema import Build, OutboxRow, Release
from builder.store.states import BUILD, REBUILD, State
from tests.unit.api import problem, submit
from tests.unit.evidence import digest, rebuild_evidence, whole_evidence

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

IMAGE = digest("a")
PATH = f"/v1/images/{IMAGE}/rebuilds"


@pytest.fixture
def database_url(url: str) -> str:
    """On SQLite and on PostgreSQL."""
    return url


def release(store: Database, repository: str = "golden/web", registry: str = "registry.example:5000") -> str:
    build_id = submit(store)
    with store.write() as session:
        build = builds.get(session, build_id)
        build.evidence, build.state = whole_evidence(), State.RELEASED
        session.query(OutboxRow).delete()
        session.add(
            Release(
                build_id=build_id, digest=IMAGE, recipe_name="web", recipe_digest=build.recipe_digest,
                registry_host=registry, repository=repository, tags=[], released_at=time.time(),
            )
        )  # fmt: skip
    return build_id


def ask(client: TestClient, body: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = client.post(PATH, json=body)
    assert answer.status_code == 202, answer.text
    view: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/v1/builds/{view['id']}"
    return view


def get(store: Database, build_id: str) -> Build:
    with store.read() as session:
        return builds.get(session, build_id)


def count(store: Database) -> int:
    with store.read() as session:
        return session.scalar(select(func.count()).select_from(Build)) or 0


class TestAsking:
    def test_gives_a_build_of_that_image_for_the_workers_that_rebuild(
        self, client: TestClient, store: Database
    ) -> None:
        release(store)
        view = ask(client)
        assert (view["purpose"], view["state"], view["subject"]) == ("rebuild", "queued", IMAGE)
        assert (view["requester"], view["recipe"], view["locked"]) == ("ci", "web", False)
        with store.write() as session:
            assert session.scalars(select(OutboxRow.queue)).all() == ["rebuild"]
            assert builds.claim(session, view["id"], BUILD, "w", 60) is None
            assert builds.claim(session, view["id"], REBUILD, "w", 60)

    @pytest.mark.parametrize(
        ("body", "offline"), [(None, False), ({}, False), ({"offline": False}, False), ({"offline": True}, True)]
    )
    def test_takes_packages_from_the_registry_alone_only_where_that_is_said(
        self, client: TestClient, store: Database, body: dict[str, Any] | None, offline: bool
    ) -> None:
        release(store)
        assert get(store, ask(client, body)["id"]).options == {"repository": "golden/web", "offline": offline}

    def test_is_about_the_repository_of_the_newest_release_or_the_one_that_is_named(
        self, client: TestClient, store: Database
    ) -> None:
        release(store, "golden/web")
        release(store, "golden/new")
        assert get(store, ask(client)["id"]).options["repository"] == "golden/new"
        assert get(store, ask(client, {"repository": "golden/web"})["id"]).options["repository"] == "golden/web"

    def test_is_taken_in_each_time_for_each_is_a_proof_of_its_own(self, client: TestClient, store: Database) -> None:
        release(store)
        assert ask(client)["id"] != ask(client)["id"]

    def test_for_an_image_that_was_not_released_here_is_unknown(self, client: TestClient, store: Database) -> None:
        told = problem(client.post(PATH), 404, "image-unknown")
        assert IMAGE in told.detail
        release(store, registry="elsewhere.example")
        problem(client.post(PATH), 404, "image-unknown")
        assert count(store) == 1

    def test_for_another_installations_image_needs_somebody_to_believe(self, client: TestClient) -> None:
        told = problem(client.post(PATH, json={"repository": "golden/web"}), 422, "not-rebuildable")
        assert "GOLDSMITH_SIGNER_IDENTITY" in (told.hint or "")

    def test_for_an_image_in_another_registry_is_refused(self, client: TestClient, store: Database) -> None:
        release(store)
        told = problem(client.post(PATH, json={"registry": "elsewhere.example"}), 422, "image-elsewhere")
        assert "registry.example:5000" in told.detail
        ask(client, {"registry": "registry.example:5000"})

    @pytest.mark.parametrize("name", ["latest", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "sha512:" + "a" * 128])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_for_what_is_no_digest_is_told(self, client: TestClient, name: str, method: str) -> None:
        told = problem(client.request(method, f"/v1/images/{name}/rebuilds"), 422, "request-invalid")
        assert told.errors[0].field == "path.digest"

    @pytest.mark.parametrize(
        ("content", "field"),
        [
            (b'{"offlin": true}', "offlin"),
            (b'{"offline": "perhaps"}', "offline"),
            (b'{"repository": "../x"}', "repository"),
            (b'{"repository": "UPPER"}', "repository"),
            (b"[]", ""),
            (b"{", ""),
            (b"\xff", ""),
        ],
    )
    def test_with_a_body_that_is_no_request_is_told(
        self, client: TestClient, store: Database, content: bytes, field: str
    ) -> None:
        release(store)
        answer = client.post(PATH, content=content, headers={"Content-Type": "application/json"})
        told = problem(answer, 422, "request-invalid")
        assert (told.errors[0].field or "") == field
        assert "recipe" not in (told.hint or "")
        assert count(store) == 1

    def test_with_a_body_of_another_type_or_without_end_is_refused(self, client: TestClient, store: Database) -> None:
        release(store)
        answer = client.post(PATH, content=b"offline: true", headers={"Content-Type": "application/yaml"})
        problem(answer, 415, "media-type-unsupported")
        problem(client.post(PATH, content=b" " * (MAX_BODY + 1)), 413, "body-too-large")

    def test_is_for_callers_with_a_key(self, anyone: TestClient) -> None:
        problem(anyone.post(PATH), 401, "not-authenticated")
        problem(anyone.get(PATH), 401, "not-authenticated")


class TestListing:
    def test_is_newest_first_and_of_that_image_alone(self, client: TestClient, store: Database) -> None:
        release(store)
        ids = []
        for _ in range(3):
            ids.append(ask(client)["id"])
            time.sleep(0.002)
        first = client.get(f"{PATH}?limit=1").json()
        assert [build["id"] for build in first["builds"]] == ids[-1:]
        assert [build["id"] for build in client.get(first["next"]).json()["builds"]][:1] == ids[-2:-1]
        page = client.get(PATH).json()
        assert [build["id"] for build in page["builds"]] == ids[::-1]
        assert page["next"] is None
        assert client.get(f"/v1/images/{digest('b')}/rebuilds").json() == {"builds": [], "next": None}

    def end(self, store: Database, build_id: str, evidence: RebuildEvidence) -> None:
        """As a worker ends it."""
        with store.write() as session:
            held = builds.claim(session, build_id, REBUILD, "w", 60)
            assert held
            if evidence.reproduced:
                builds.complete(session, held, rebuild=kept(evidence))
            else:
                build = builds.held_build(session, held)
                build.evidence = {"rebuild": kept(evidence)}
                builds.end(session, build, State.FAILED, NotReproduced("1 paths differ").problem())

    def test_says_who_attested_that_one_is_the_same(self, client: TestClient, store: Database) -> None:
        release(store)
        self.end(store, ask(client)["id"], rebuild_evidence())
        (build,) = client.get(PATH).json()["builds"]
        assert (build["state"], build["problem"]) == ("reproduced", None)
        assert build["rebuild"]["matched"] == {"manifest": True, "config": True, "diffIds": True, "inventory": True}
        assert build["rebuild"]["attestation"]["identity"] == "https://sandbox.invalid/rebuilder"
        assert build["rebuild"]["materialsFrom"] == {"the registry": 2}
        assert client.get("/v1/builds?state=reproduced").json()["builds"] == [build]

    def test_says_by_path_how_one_differs(self, client: TestClient, store: Database) -> None:
        release(store)
        path = DifferingPath(path="/etc/motd", kinds=("content",), golden="1" * 64, rebuilt="2" * 64, package="base 1")
        self.end(store, ask(client)["id"], rebuild_evidence(path))
        (build,) = client.get(PATH).json()["builds"]
        assert (build["state"], build["problem"]["type"]) == ("failed", "/problems/not-reproduced")
        assert build["rebuild"]["attestation"] is None
        assert build["rebuild"]["differences"] == [path.model_dump(mode="json")]


def test_a_rebuild_has_no_lock_of_its_own(client: TestClient, store: Database) -> None:
    release(store)
    problem(client.get(f"/v1/builds/{ask(client)['id']}/lock"), 409, "lock-unavailable")
