"""Builds as the API shows them, listed, followed and cancelled. On SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
import time

import pytest
from fastapi.testclient import TestClient

from builder.store import builds, journal
from builder.store.database import Database
from builder.store.states import BUILD
from tests.unit.api import end, events, problem, say, submit
from tests.unit.evidence import digest, whole_evidence

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]


@pytest.fixture
def database_url(url: str) -> str:
    return url


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

    def test_that_was_answered_by_an_earlier_release_says_by_which(self, client: TestClient, store: Database) -> None:
        earlier, build_id = submit(store), submit(store)
        with store.write() as session:
            held = builds.claim(session, build_id, BUILD, "w", 60)
            assert held
            unchanged = {"build_id": earlier, "digest": digest("a")}
            builds.complete(session, held, **whole_evidence(), unchanged=unchanged)
        view = client.get(f"/v1/builds/{build_id}").json()
        assert (view["state"], view["unchangedSince"], view["result"]["digest"]) == ("released", earlier, digest("a"))
        assert client.get(f"/v1/builds/{earlier}").json()["unchangedSince"] is None

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
