"""The HTTP API as its callers meet it: who may call, what they get, how every failure is told. On both databases."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import update

from builder.api.app import create_app
from builder.api.bodies import MAX_BODY
from builder.errors import Problem
from builder.ledger.record import ReleaseRecord, append
from builder.settings import Settings
from builder.store import attachments, builds, journal, keys
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.journal import Line
from builder.store.schema import ApiKey, Release
from builder.store.states import BUILD, State
from tests.unit.evidence import digest, whole_evidence

pytest_plugins = ["tests.unit.databases"]

OPEN = {"/healthz", "/readyz", "/v1/trust", "/problems/{slug}"}
RECIPE = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: NAME}
spec:
  base: {debian: {suite: trixie}}
  publish: {repository: golden/x}
"""
DATA = {
    "apiVersion": "goldsmith/v1",
    "kind": "Image",
    "metadata": {"name": "x"},
    "spec": {"base": {"debian": {"suite": "trixie"}}, "publish": {"repository": "golden/x"}},
}
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    directory = tmp_path / "recipes"
    directory.mkdir()
    for name in ("web", "python"):
        (directory / f"{name}.yaml").write_text(RECIPE.replace("NAME", name))
    return Settings(
        database_url=url, recipes_directory=directory, state_directory=tmp_path, registry="registry.example:5000"
    )


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def store(app: FastAPI) -> Database:
    found: Database = app.state.database
    return found


@pytest.fixture
def anyone(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(anyone: TestClient, store: Database) -> TestClient:
    with store.write() as session:
        anyone.headers["Authorization"] = f"Bearer {keys.create_key(session, 'ci')}"
    return anyone


def problem(answer: Response, status: int, slug: str | None) -> Problem:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate(answer.json())
    assert found.status == status
    assert found.type == (f"/problems/{slug}" if slug else "about:blank")
    assert found.title
    assert found.detail
    assert found.instance == answer.request.url.path
    assert ("Retry-After" in answer.headers) == found.retryable
    return found


def submit(store: Database, name: str = "web") -> str:
    with store.write() as session:
        return builds.submit(session, Submission(name, digest("1"), "{}", "request", "ci")).id


def say(store: Database, build_id: str, *texts: str) -> None:
    with store.write() as session:
        token = builds.get(session, build_id).token
        assert journal.append_log(session, build_id, [Line(1.5, "run", text) for text in texts], token=token)


def end(store: Database, build_id: str, state: State = State.FAILED) -> None:
    why = Problem(type="/problems/run-failed", title="A command failed", status=422, detail="exit code 3")
    with store.write() as session:
        builds.end(session, builds.get(session, build_id), state, why)


class TestAccess:
    def test_every_route_but_the_open_ones_needs_a_key(self, app: FastAPI, anyone: TestClient) -> None:
        parts = [getattr(entry, "original_router", None) for entry in app.routes]
        routes = [route for part in parts if part for route in part.routes if isinstance(route, APIRoute)]
        assert {route.path for route in routes} == set(app.openapi()["paths"])
        assert {route.path for route in routes} >= OPEN
        closed = [route for route in routes if route.path not in OPEN]
        assert len(closed) >= 12
        for route in closed:
            path = route.path.format(build_id="0" * 26, digest=digest("a"), name="web", slug="x")
            for method in route.methods:
                answer = anyone.request(method, path)
                told = problem(answer, 401, "not-authenticated")
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert "Authorization: Bearer" in (told.hint or "")

    @pytest.mark.parametrize(
        "header", ["", "Bearer", "Bearer ", "Bearer x", "Basic Y2k6eA==", "bearer gs_", "Bearer \xff", "Bearer a b"]
    )
    def test_what_is_no_key_is_refused_and_not_repeated(self, anyone: TestClient, header: str) -> None:
        answer = anyone.get("/v1/builds", headers={"Authorization": header.encode("latin-1")})
        told = problem(answer, 401, "not-authenticated")
        assert "gs_" not in told.detail

    def test_a_revoked_key_is_refused(self, client: TestClient, store: Database) -> None:
        assert client.get("/v1/builds").status_code == 200
        with store.write() as session:
            session.execute(update(ApiKey).values(revoked_at=1.0))
        problem(client.get("/v1/builds"), 401, "not-authenticated")

    def test_nobody_unknown_learns_what_is_valid(self, anyone: TestClient) -> None:
        problem(anyone.get("/v1/builds?limit=x"), 401, "not-authenticated")
        problem(anyone.get("/v1/images/x"), 401, "not-authenticated")
        problem(anyone.post("/v1/builds", content=b"x" * (MAX_BODY + 1)), 401, "not-authenticated")

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs", "/problems/build-unknown"])
    def test_what_is_open_answers_anyone(self, anyone: TestClient, path: str) -> None:
        assert anyone.get(path).status_code == 200


class TestProblems:
    def test_nothing_there(self, client: TestClient) -> None:
        assert problem(client.get("/nowhere"), 404, None).detail == "there is nothing at /nowhere"

    def test_a_method_that_is_not_allowed(self, client: TestClient) -> None:
        answer = client.delete("/v1/builds")
        assert problem(answer, 405, None).detail == "DELETE is not allowed at /v1/builds"
        assert answer.headers["Allow"]

    def test_a_fault_of_ours_tells_no_detail(self, app: FastAPI, client: TestClient) -> None:
        def broken() -> None:
            raise KeyError("hunter2 in /srv/secret")

        app.add_api_route("/broken", broken)
        answer = client.get("/broken")
        assert problem(answer, 500, "internal-error").hint == "the service's log says why"
        assert "hunter2" not in answer.text

    def test_a_database_that_is_away_can_be_tried_again(
        self, client: TestClient, store: Database, settings: Settings
    ) -> None:
        with store._engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE builds RENAME TO away")
            connection.commit()
        answer = client.get("/v1/builds")
        if answer.status_code == 503:  # SQLite cannot tell a missing table from a missing database
            problem(answer, 503, "database-unavailable")
        else:
            problem(answer, 500, "internal-error")
        assert settings.database_url not in answer.text

    def test_each_problem_that_can_be_met_has_its_page(self, anyone: TestClient) -> None:
        sources = [
            path.read_text()
            for path in (Path(__file__).parents[2] / "builder").glob("*/*.py")
            if path.parent.name not in ("cli", "client", "sandbox")
        ]
        slugs = [slug for text in sources for slug in re.findall(r'^    slug = "([a-z-]+)"$', text, re.MULTILINE)]
        assert len(slugs) > 60
        missing = [slug for slug in slugs if anyone.get(f"/problems/{slug}").status_code != 200]
        assert missing == []

    def test_a_page_says_title_status_and_whether_a_retry_helps(self, anyone: TestClient) -> None:
        text = anyone.get("/problems/database-unavailable").text
        assert text.startswith("The database does not answer\n")
        assert "HTTP status 503. A retry can help." in text

    def test_a_page_of_no_problem_is_a_problem(self, anyone: TestClient) -> None:
        problem(anyone.get("/problems/" + "x" * 1000), 404, "problem-unknown")


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
            (b'{"recipe": 7}', "recipe", "valid string"),
            (b"{}", "recipe", "required"),
            (b'{"recipe": "web", "force": true}', "force", "not permitted"),
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


class TestListing:
    def test_is_newest_first_and_pages_to_the_end(self, client: TestClient, store: Database) -> None:
        ids = []
        for _ in range(7):
            ids.append(submit(store))
            time.sleep(0.002)
        found: list[str] = []
        path: str | None = "/v1/builds?limit=3"
        while path:
            assert path.startswith("/v1/builds?")
            page = client.get(path).json()
            found += [build["id"] for build in page["builds"]]
            path = page["next"]
        assert found == ids[::-1]

    def test_pages_keep_their_filters(self, client: TestClient, store: Database) -> None:
        for name in ("web", "other", "web", "other", "web"):
            submit(store, name)
            time.sleep(0.002)
        page = client.get("/v1/builds", params={"recipe": "web", "limit": 2}).json()
        assert [build["recipe"] for build in page["builds"]] == ["web", "web"]
        rest = client.get(page["next"]).json()
        assert [build["recipe"] for build in rest["builds"]] == ["web"]
        assert rest["next"] is None

    def test_by_state(self, client: TestClient, store: Database) -> None:
        submit(store)
        failed = submit(store)
        end(store, failed)
        page = client.get("/v1/builds?state=failed").json()
        assert [build["id"] for build in page["builds"]] == [failed]
        assert page["builds"][0]["problem"]["detail"] == "exit code 3"

    def test_of_nothing_is_an_empty_page(self, client: TestClient) -> None:
        assert client.get("/v1/builds?recipe=none").json() == {"builds": [], "next": None}

    @pytest.mark.parametrize(
        "query", ["limit=0", "limit=101", "limit=x", "state=lost", "before=x", "before=" + "A" * 26, "recipe=%00",
                  "recipe=" + "x" * 64, "recipe=%F0%9F%98%80"]
    )  # fmt: skip
    def test_by_what_makes_no_sense_is_told(self, client: TestClient, query: str) -> None:
        told = problem(client.get(f"/v1/builds?{query}"), 422, "request-invalid")
        assert told.errors[0].field == f"query.{query.partition('=')[0]}"


class TestBuild:
    def test_shows_steps_and_evidence_as_they_come(self, client: TestClient, store: Database) -> None:
        build_id = submit(store)
        with store.write() as session:
            step = journal.begin_step(session, build_id, 1, "resolve")
            journal.finish_step(session, step, "done", "18 packages")
        view = client.get(f"/v1/builds/{build_id}").json()
        assert [(step["name"], step["state"], step["summary"]) for step in view["steps"]] == [
            ("resolve", "done", "18 packages")
        ]
        assert view["result"]["digest"] is None
        with store.write() as session:
            builds.get(session, build_id).evidence = whole_evidence()
        result = client.get(f"/v1/builds/{build_id}").json()["result"]
        assert result["digest"] == digest("a")
        assert result["reference"] == f"registry.example:5000/golden/web@{digest('a')}"
        assert (result["gate"], result["sampleDatabase"], result["sandboxSigner"]) == ("passed", True, True)

    @pytest.mark.parametrize("build_id", ["x", "0" * 26, "%00", "0" * 25 + "%00", "%F0%9F%98%80", "x" * 3000])
    def test_that_is_none_is_unknown(self, client: TestClient, build_id: str) -> None:
        for method, path in (("GET", ""), ("GET", "/logs"), ("POST", "/cancel")):
            told = problem(client.request(method, f"/v1/builds/{build_id}{path}"), 404, "build-unknown")
            assert len(told.detail) < 100

    def test_that_waits_is_cancelled_at_once(self, client: TestClient, store: Database) -> None:
        build_id = submit(store)
        answer = client.post(f"/v1/builds/{build_id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
        problem(client.post(f"/v1/builds/{build_id}/cancel"), 409, "build-already-final")

    def test_that_runs_is_asked_to_stop(self, client: TestClient, store: Database) -> None:
        build_id = submit(store)
        with store.write() as session:
            assert builds.claim(session, build_id, BUILD, "w", 60)
        answer = client.post(f"/v1/builds/{build_id}/cancel")
        assert answer.status_code == 202
        assert (answer.json()["state"], answer.json()["cancelRequested"]) == ("building", True)


def events(text: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Server-sent events, read as WHATWG HTML, section 9.2.6 says."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
    return found


class TestLog:
    SSE = {"Accept": "text/event-stream"}  # noqa: RUF012

    @pytest.fixture
    def build_id(self, store: Database) -> str:
        return submit(store)

    def test_as_text(self, client: TestClient, store: Database, build_id: str) -> None:
        say(store, build_id, *(f"line {number}" for number in range(1, 1203)))
        answer = client.get(f"/v1/builds/{build_id}/logs")
        assert answer.headers["content-type"].startswith("text/plain")
        assert len(answer.text.splitlines()) == 1202
        assert answer.text.splitlines()[-1] == "run          line 1202"
        assert client.get(f"/v1/builds/{build_id}/logs?after=1201").text == "run          line 1202\n"

    def test_as_pages(self, client: TestClient, store: Database, build_id: str) -> None:
        say(store, build_id, *(f"{number}" for number in range(1, 1203)))
        end(store, build_id)
        path, found = f"/v1/builds/{build_id}/logs", []
        after: int | None = 0
        while after is not None:
            page = client.get(path, params={"after": after}, headers={"Accept": "application/json"}).json()
            found += [line["number"] for line in page["lines"]]
            after = page["next"]
        assert found == list(range(1, 1203))

    def test_pages_of_a_build_that_runs_have_a_next_one(
        self, client: TestClient, store: Database, build_id: str
    ) -> None:
        path, accept = f"/v1/builds/{build_id}/logs", {"Accept": "application/json"}
        assert client.get(path, headers=accept).json() == {"lines": [], "next": 0}
        say(store, build_id, "a")
        page = client.get(path, headers=accept).json()
        assert page["next"] == 1
        assert page["lines"] == [{"number": 1, "at": "1970-01-01T00:00:01.500000Z", "step": "run", "text": "a"}]

    def test_as_events_of_a_build_that_has_ended(self, client: TestClient, store: Database, build_id: str) -> None:
        with store.write() as session:
            journal.begin_step(session, build_id, 1, "run")
        say(store, build_id, "a\tb", "é")
        end(store, build_id)
        answer = client.get(f"/v1/builds/{build_id}/logs", headers=self.SSE)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        found = events(answer.text)
        assert [(name, number) for name, number, _ in found] == [
            ("log", 1), ("log", 2), ("step", 2), ("state", 2), ("end", 2),
        ]  # fmt: skip
        assert [data["text"] for name, _, data in found if name == "log"] == ["a\tb", "é"]
        assert found[-1][2] == client.get(f"/v1/builds/{build_id}").json()

    @pytest.mark.parametrize("resume", [{"Last-Event-ID": "2"}, {}])
    def test_as_events_goes_on_where_it_stopped(
        self, client: TestClient, store: Database, build_id: str, resume: dict[str, str]
    ) -> None:
        say(store, build_id, *"abc")
        end(store, build_id)
        query = "" if resume else "?after=2"
        answer = client.get(f"/v1/builds/{build_id}/logs{query}", headers={**self.SSE, **resume})
        assert [data["text"] for name, _, data in events(answer.text) if name == "log"] == ["c"]

    def test_as_events_of_a_build_that_goes_on_misses_nothing_to_the_end(
        self, client: TestClient, store: Database, build_id: str
    ) -> None:
        def work() -> None:
            with store.write() as session:
                assert builds.claim(session, build_id, BUILD, "w", 60)
            for number in range(30):
                say(store, build_id, f"{number}", f"{number}+")
                time.sleep(0.02)
            end(store, build_id)

        worker = threading.Thread(target=work)
        worker.start()
        found = events(client.get(f"/v1/builds/{build_id}/logs", headers=self.SSE).text)
        worker.join()
        logged = [(number, data["text"]) for name, number, data in found if name == "log"]
        assert [number for number, _ in logged] == list(range(1, 61))
        assert [data["state"] for name, _, data in found if name == "state"][-1] == "failed"
        assert found[-1][0] == "end"
        assert [name for name, _, _ in found].count("end") == 1

    @pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 17, str(2**31), "\u0663"])
    def test_from_a_place_that_is_none_is_told(self, client: TestClient, build_id: str, last: str) -> None:
        answer = client.get(f"/v1/builds/{build_id}/logs", headers={**self.SSE, "Last-Event-ID": last.encode()})
        problem(answer, 422, "request-invalid")

    @pytest.mark.parametrize("after", ["-1", "x", str(2**31)])
    def test_after_what_is_no_number_is_told(self, client: TestClient, build_id: str, after: str) -> None:
        problem(client.get(f"/v1/builds/{build_id}/logs?after={after}"), 422, "request-invalid")

    def test_beyond_its_end_is_empty(self, client: TestClient, store: Database, build_id: str) -> None:
        say(store, build_id, "a")
        assert client.get(f"/v1/builds/{build_id}/logs?after={2**31 - 1}").text == ""


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
                    repository="golden/web", tags=["1"], released_at=100.0,
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
        for link in view["links"].values():
            answer = client.get(link)
            assert answer.status_code == 200
            assert answer.headers["ETag"].startswith('"sha256:')

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


class TestService:
    def test_is_ready_while_the_broker_is_away_and_says_so(self, anyone: TestClient, app: FastAPI) -> None:
        app.state.settings = Settings(redis_url="redis://:hunter2@127.0.0.1:1/0")
        answer = anyone.get("/readyz")
        assert answer.json()["checks"] == {"database": "ok", "redis": "away: builds are taken in and wait"}
        assert "hunter2" not in answer.text

    def test_trust_is_the_public_one_unless_another_is_set(self, anyone: TestClient) -> None:
        problem(anyone.get("/v1/trust"), 404, "trust-not-configured")

    def test_trust_that_is_set_is_given_to_anyone(self, anyone: TestClient, app: FastAPI, tmp_path: Path) -> None:
        (tmp_path / "trust.json").write_text('{"trustedRoot": {"mediaType": "x"}, "signingConfig": {}}')
        app.state.settings = Settings(
            sigstore_trust_config=tmp_path / "trust.json", signer_identity="https://a", signer_issuer="https://b"
        )
        assert anyone.get("/v1/trust").json() == {
            "identity": "https://a", "issuer": "https://b", "trustedRoot": {"mediaType": "x"},
        }  # fmt: skip

    @pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
    def test_trust_that_cannot_be_read_names_the_setting(
        self, anyone: TestClient, app: FastAPI, tmp_path: Path, content: str | None
    ) -> None:
        if content is not None:
            (tmp_path / "trust.json").write_text(content)
        app.state.settings = Settings(sigstore_trust_config=tmp_path / "trust.json")
        told = problem(anyone.get("/v1/trust"), 500, "settings-invalid")
        assert "GOLDSMITH_SIGSTORE_TRUST_CONFIG" in told.detail
        assert str(tmp_path) not in told.detail


def test_the_document_describes_every_failure_as_a_problem(app: FastAPI) -> None:
    document = app.openapi()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5")):
                    assert list(response["content"]) == ["application/problem+json"], (path, status)
