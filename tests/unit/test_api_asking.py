"""What can be asked of the API and what it gives: builds from recipes, recipes, released images."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from builder.api.bodies import MAX_BODY
from builder.ledger.record import ReleaseRecord, append
from builder.settings import Settings
from builder.store import attachments, builds
from builder.store.attachments import Kind
from builder.store.database import Database
from builder.store.schema import Release
from builder.store.states import State
from tests.unit.api import RECIPE, problem, submit
from tests.unit.evidence import digest, whole_evidence

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

DATA = {
    "apiVersion": "goldsmith/v1",
    "kind": "Image",
    "metadata": {"name": "x"},
    "spec": {"base": {"debian": {"suite": "trixie"}}, "publish": {"repository": "golden/x"}},
}
YAML = {"Content-Type": "application/yaml"}


class TestAsking:
    def test_for_a_recipe_of_the_catalogue(self, client: TestClient, store: Database) -> None:
        answer = client.post("/v1/builds", json={"recipe": "web"})
        assert answer.status_code == 202
        view = answer.json()
        assert answer.headers["Location"] == f"/v1/builds/{view['id']}"
        assert (view["state"], view["recipe"], view["requester"]) == ("queued", "web", "ci")
        assert client.get(answer.headers["Location"]).json() == view
        with store.read() as session:
            assert builds.get(session, view["id"]).origin == "catalogue"

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (json.dumps({"recipe": DATA}), "application/json"),
            (json.dumps({"recipe": DATA}), "application/json; charset=utf-8"),
            (json.dumps({"recipe": DATA}), "APPLICATION/JSON"),
            (RECIPE.replace("NAME", "x"), "application/yaml"),
            (RECIPE.replace("NAME", "x"), "text/yaml"),
        ],
    )
    def test_for_a_recipe_in_the_request(self, client: TestClient, content: str, kind: str) -> None:
        answer = client.post("/v1/builds", content=content, headers={"Content-Type": kind})
        assert answer.status_code == 202
        assert answer.json()["recipe"] == "x"

    def test_for_a_name_that_nobody_knows(self, client: TestClient) -> None:
        told = problem(client.post("/v1/builds", json={"recipe": "pyton"}), 404, "recipe-unknown")
        assert told.hint == "did you mean 'python'?"

    @pytest.mark.parametrize(
        ("content", "field", "message"),
        [
            (b"", None, "EOF"),
            (b"{", None, "EOF"),
            (b"[]", None, "object"),
            (b"\xff", None, "invalid"),
            (b'{"recipe": 7}', "recipe", "must be a name"),
            (b"{}", None, "one of the two, recipe and repository"),
            (b'{"recipe": "web", "forse": true}', "forse", "not permitted"),
            (b'{"recipe": "web", "force": "ja"}', "force", "valid boolean"),
            (b'{"recipe": "web", "lockUse": "perhaps"}', "lockUse", "'prefer', 'require' or 'update'"),
            (b'{"recipe": "web", "lock": "web.lock.json"}', "lock", "object"),
            (b'{"recipe": "\\ud800"}', None, "hex escape"),
            (b'{"recipe": ' + b"[" * 5000 + b"]" * 5000 + b"}", None, "recursion"),
        ],
    )
    def test_with_a_body_that_is_no_request(
        self, client: TestClient, content: bytes, field: str | None, message: str
    ) -> None:
        answer = client.post("/v1/builds", content=content, headers={"Content-Type": "application/json"})
        told = problem(answer, 422, "request-invalid")
        assert any((fault.field or "").split(".")[0] == (field or "") for fault in told.errors)
        assert message.lower() in told.detail.lower()

    @pytest.mark.parametrize(
        ("recipe", "field"),
        [
            ({}, "apiVersion"),
            ({**DATA, "kind": "Imag"}, "kind"),
            ({**DATA, "test:x": 1}, "test:x"),
            ({**DATA, "metadata": {"name": 10**400}}, "metadata.name"),
            ({**DATA, "spec": {**DATA["spec"], "pakages": []}}, "spec.pakages"),  # type: ignore[dict-item]
            ({**DATA, "spec": {**DATA["spec"], "files": [{"path": "/a", "source": "b"}]}}, "spec.files[0].source"),  # type: ignore[dict-item]
        ],
    )
    def test_for_a_recipe_with_a_fault(self, client: TestClient, recipe: dict[str, Any], field: str) -> None:
        told = problem(client.post("/v1/builds", json={"recipe": recipe}), 422, "recipe-invalid")
        assert field in [fault.field for fault in told.errors]

    def test_with_a_number_longer_than_any(self, client: TestClient) -> None:
        content = b'{"recipe": {"a": ' + b"7" * 5000 + b"}}"
        answer = client.post("/v1/builds", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422

    @pytest.mark.parametrize(
        "content", [b"", b"- \xff", b"a: &x [*x]", b'"\\U00110000"', b"[" * 10_000, b"x: " + b"9" * 5000]
    )
    def test_with_yaml_that_is_no_recipe(self, client: TestClient, content: bytes) -> None:
        problem(client.post("/v1/builds", content=content, headers=YAML), 422, "recipe-invalid")

    @pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "json", ","])
    def test_with_a_type_that_is_not_understood(self, client: TestClient, kind: str) -> None:
        answer = client.post("/v1/builds", content=b"{}", headers={"Content-Type": kind})
        assert "application/json" in (problem(answer, 415, "media-type-unsupported").hint or "")

    def test_with_a_body_at_the_limit_and_one_byte_above(self, client: TestClient) -> None:
        problem(client.post("/v1/builds", content=b" " * MAX_BODY), 422, "request-invalid")
        problem(client.post("/v1/builds", content=b" " * (MAX_BODY + 1)), 413, "body-too-large")

    def test_with_a_body_without_end(self, client: TestClient) -> None:
        sent = 0

        def endless() -> Iterator[bytes]:
            nonlocal sent
            while sent < 64 * MAX_BODY:
                sent += 65536
                yield b" " * 65536

        problem(client.post("/v1/builds", content=endless()), 413, "body-too-large")

    def test_for_many_things_at_once_gives_each_its_build(self, client: TestClient) -> None:
        answers: list[Response] = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.post("/v1/builds", json={"recipe": "web"})))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 12


class TestRecipes:
    def test_are_listed_with_their_digests(self, client: TestClient) -> None:
        page = client.get("/v1/recipes").json()
        assert [recipe["name"] for recipe in page["recipes"]] == ["python", "web"]
        assert page["recipes"][0]["base"] == "debian trixie"
        assert page["invalid"] == {}

    def test_one_with_a_fault_is_listed_with_it_and_hides_no_other(
        self, client: TestClient, settings: Settings
    ) -> None:
        (settings.recipes_directory / "broken.yaml").write_text("apiVersion: goldsmith/v2\n")
        page = client.get("/v1/recipes").json()
        assert [recipe["name"] for recipe in page["recipes"]] == ["python", "web"]
        assert "apiVersion: must be 'goldsmith/v1'" in page["invalid"]["broken"]
        problem(client.get("/v1/recipes/broken"), 422, "recipe-invalid")
        problem(client.post("/v1/builds", json={"recipe": "broken"}), 422, "recipe-invalid")

    def test_come_in_pages_with_those_that_have_a_fault(self, client: TestClient, settings: Settings) -> None:
        (settings.recipes_directory / "broken.yaml").write_text("apiVersion: goldsmith/v2\n")
        (settings.recipes_directory / "My_web, as it was.yaml").write_text("no recipe")
        told: list[str] = []
        path: str | None = "/v1/recipes?limit=1"
        while path is not None:
            page = client.get(path).json()
            told += [*page["invalid"], *(recipe["name"] for recipe in page["recipes"])]
            path = page["next"]
        assert told == ["My_web, as it was", "broken", "python", "web"]

    def test_are_read_and_can_be_asked_for_as_they_are(self, client: TestClient) -> None:
        recipe = client.get("/v1/recipes/web").json()
        listed = client.get("/v1/recipes").json()["recipes"][1]
        asked = client.post("/v1/builds", json={"recipe": recipe}).json()
        assert asked["recipeDigest"] == listed["digest"]

    @pytest.mark.parametrize("name", ["nothing", "..%2Fsecret", "%00", "web.yaml"])
    def test_that_are_none_are_unknown(self, client: TestClient, name: str) -> None:
        assert client.get(f"/v1/recipes/{name}").status_code == 404

    def test_have_a_schema(self, client: TestClient) -> None:
        assert client.get("/v1/recipes/schema").json()["title"] == "Goldsmith recipe"


class TestImages:
    @pytest.fixture
    def released(self, store: Database) -> str:
        build_id = submit(store)
        with store.write() as session:
            build = builds.get(session, build_id)
            build.evidence, build.state = whole_evidence(), State.RELEASED
            for kind in Kind:
                attachments.attach(session, build_id, kind, f"application/x-{kind}", f"the {kind}".encode())
            session.add(
                Release(
                    build_id=build_id, digest=digest("a"), recipe_name="web", recipe_digest=digest("1"),
                    registry_host="registry.example:5000", repository="golden/web", tags=["1"], released_at=100.0,
                )
            )  # fmt: skip
            append(
                session,
                ReleaseRecord(
                    build_id=build_id, image_digest=digest("a"), requester="ci", requested=1.0, recipe={},
                    recipe_digest=digest("1"), attempt=1, steps=[], build={}, scan={}, release={}, bundles={},
                ),
            )  # fmt: skip
        return build_id

    def test_are_shown_with_links_that_lead_somewhere(self, client: TestClient, released: str) -> None:
        view = client.get(f"/v1/images/{digest('a')}").json()
        assert (view["build"], view["tags"], view["releasedAt"]) == (released, ["1"], "1970-01-01T00:01:40Z")
        for name, link in view["links"].items():
            answer = client.get(link)
            assert answer.status_code == 200
            # The verdict says what has expired since, so it is never the same for good.
            assert ("ETag" in answer.headers) is (name != "verdict")

    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("provenance", "provenance"), ("sbom", "sbom-cyclonedx"), ("sbom?format=spdx", "sbom-spdx"),
            ("scan", "scan"), ("inventory", "inventory"),
        ],
    )  # fmt: skip
    def test_give_their_evidence_byte_by_byte(self, client: TestClient, released: str, path: str, kind: str) -> None:
        answer = client.get(f"/v1/images/{digest('a')}/{path}")
        assert answer.content == f"the {kind}".encode()
        assert answer.headers["content-type"] == f"application/x-{kind}"

    def test_give_the_record_of_their_release(self, client: TestClient, released: str) -> None:
        record = client.get(f"/v1/images/{digest('a')}/record").json()
        assert (record["format"], record["buildId"]) == ("goldsmith-record/v1", released)

    @pytest.mark.parametrize("part", ["", "/provenance", "/sbom", "/scan", "/inventory", "/record"])
    def test_that_were_not_released_are_unknown(self, client: TestClient, part: str) -> None:
        problem(client.get(f"/v1/images/{digest('b')}{part}"), 404, "image-unknown")
        problem(client.get(f"/v1/images/latest{part}"), 422, "request-invalid")

    def test_in_a_form_that_is_none_are_refused(self, client: TestClient, released: str) -> None:
        problem(client.get(f"/v1/images/{digest('a')}/sbom?format=pdf"), 422, "request-invalid")
