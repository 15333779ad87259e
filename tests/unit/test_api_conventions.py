"""What holds for every request and answer: how often, how large, compressed, part of a trace, read again or not."""

from __future__ import annotations

import gzip
import json
import logging
import time

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Route

from builder.api.app import create_app
from builder.api.compressing import Compressing
from builder.api.conditional import Conditional, tagged
from builder.api.rates import Counted, Policy, Rates
from builder.api.scopes import ROUTES
from builder.errors import GoldsmithError
from builder.pipeline.stage import Task, run_stage
from builder.settings import Settings
from builder.store import builds, keys
from builder.store.database import Database
from builder.store.states import BUILD
from builder.tracing import trace_of
from tests.unit.api import problem, say, submit

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]
NOWHERE = "redis://127.0.0.1:1/0"


class TestRates:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(
            update={"requests_per_minute": 5, "jobs_per_minute": 2, "redis_url": SecretStr(NOWHERE)}
        )

    @pytest.fixture(autouse=True)
    def _within_a_minute(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = time.time() // 60 * 60 + 10
        monkeypatch.setattr("builder.api.rates.time.time", lambda: now)

    def test_every_answer_says_what_is_left(self, client: TestClient) -> None:
        answer = client.get("/v1/builds")
        assert answer.headers["RateLimit-Policy"] == '"requests";q=5;w=60'
        assert answer.headers["RateLimit"] == '"requests";r=4;t=50'
        asked = client.post("/v1/builds", json={"recipe": "none"})
        assert asked.headers["RateLimit-Policy"] == '"requests";q=5;w=60, "jobs";q=2;w=60'
        assert asked.headers["RateLimit"] == '"requests";r=3;t=50, "jobs";r=1;t=50'

    def test_who_asks_too_often_is_told_when_to_ask_again(self, client: TestClient, store: Database) -> None:
        for _ in range(5):
            assert client.get("/v1/builds").status_code == 200
        answer = client.get("/v1/builds")
        told = problem(answer, 429, "rate-limited")
        assert "ci may ask for 5 requests a minute" in told.detail
        assert answer.headers["Retry-After"] == "50"
        assert answer.headers["RateLimit"] == '"requests";r=0;t=50'
        with store.write() as session:
            other = keys.create_key(session, "other")
        assert client.get("/v1/builds", headers={"Authorization": f"Bearer {other}"}).status_code == 200
        assert client.get("/healthz").status_code == 200

    def test_work_for_workers_has_a_limit_of_its_own(self, client: TestClient) -> None:
        for _ in range(2):
            assert client.post("/v1/builds", json={"recipe": "web"}).status_code == 202
        problem(client.post("/v1/builds", json={"recipe": "web"}), 429, "rate-limited")
        assert client.get("/v1/builds").status_code == 200

    def test_the_next_minute_is_another(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        for _ in range(6):
            answer = client.get("/v1/builds")
        assert answer.status_code == 429
        later = time.time() // 60 * 60 + 70
        monkeypatch.setattr("builder.api.rates.time.time", lambda: later)
        assert client.get("/v1/builds").status_code == 200

    def test_strangers_are_told_nothing(self, anyone: TestClient) -> None:
        assert "RateLimit" not in anyone.get("/v1/builds").headers


def test_no_limit_is_none(settings: Settings) -> None:
    assert Rates(NOWHERE, "x").take([Counted("ci", [Policy("requests", 0)])]) == [()]


class TestBounds:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"exception_approvers": ("ci",)})

    def test_large_headers_are_refused(self, client: TestClient) -> None:
        problem(client.get("/healthz", headers={"X-Filler": "x" * 40_000}), 431, "headers-too-large")

    def test_many_headers_are_refused(self, client: TestClient) -> None:
        problem(client.get("/healthz", headers={f"X-{n}": "x" for n in range(120)}), 431, "headers-too-large")

    def test_a_long_path_or_query_is_refused(self, client: TestClient) -> None:
        answer = client.get("/v1/builds?recipe=" + "x" * 9000)
        problem(answer, 414, "target-too-long")
        assert client.get("/v1/builds/" + "x" * 9000).status_code == 414
        assert "X-Request-Id" in answer.headers

    @pytest.mark.parametrize(
        "action", [action for action in ROUTES if action.startswith("POST") and action != "POST /v1/comparisons"]
    )
    def test_no_route_reads_a_giant(self, client: TestClient, action: str) -> None:
        parameters = {"build_id": "0" * 26, "digest": "sha256:" + "a" * 64, "webhook_id": "0" * 16, "number": 1}
        path = action.partition(" ")[2].format(**parameters)
        kind = "text/plain" if "cosignatures" in path else "application/json"
        answer = client.post(path, content=b'"' + b"x" * (3 << 20) + b'"', headers={"Content-Type": kind})
        # Those that take no body do not read it.
        assert answer.status_code in {413, 404, 202, 409}, answer.text
        if answer.status_code == 413:
            problem(answer, 413, "body-too-large")


class TestCompression:
    def test_for_who_takes_it(self, client: TestClient, store: Database) -> None:
        build = submit(store)
        say(store, build, *["the same again"] * 200)
        plain = client.get(f"/v1/builds/{build}/logs", headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        with client.stream("GET", f"/v1/builds/{build}/logs", headers={"Accept-Encoding": "gzip"}) as packed:
            raw = b"".join(packed.iter_raw())
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in packed.headers["Vary"]
        assert len(raw) < len(plain.content) / 5
        assert gzip.decompress(raw) == plain.content

    def test_not_of_a_stream_nor_of_what_is_not_read(self, client: TestClient, store: Database) -> None:
        build = submit(store)
        say(store, build, *["the same again"] * 200)
        with store.write() as session:
            builds.request_cancel(session, build)
        events = client.get(f"/v1/builds/{build}/logs", headers={"Accept": "text/event-stream"})
        assert "Content-Encoding" not in events.headers
        big = client.post("/v1/builds", json={"recipe": {"x" * 60 + str(n): 1 for n in range(30)}})
        assert len(big.content) > 1024
        assert "Content-Encoding" not in big.headers

    def test_a_tag_is_weak_then_and_still_known(self) -> None:
        def page(_: Request) -> Response:
            return tagged(b"the same again" * 200, "application/json")

        app = Starlette(routes=[Route("/", page)])
        app.add_middleware(Conditional)
        app.add_middleware(Compressing)
        with TestClient(app) as client:
            plain, packed = (client.get("/", headers={"Accept-Encoding": how}) for how in ("identity", "gzip"))
            assert plain.headers["ETag"].startswith('"')
            assert packed.headers["ETag"] == f"W/{plain.headers['ETag']}"
            for known in (plain, packed):
                again = client.get("/", headers={"If-None-Match": known.headers["ETag"]})
                assert (again.status_code, again.content) == (304, b"")
                assert again.headers["ETag"] == known.headers["ETag"]


class TestTraces:
    TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

    @pytest.mark.parametrize(
        ("header", "kept"),
        [
            (f"00-{TRACE}-00f067aa0ba902b7-01", True),
            (f"01-{TRACE}-00f067aa0ba902b7-01-more", True),
            (f"00-{TRACE}-00f067aa0ba902b7-01-more", False),
            (f"ff-{TRACE}-00f067aa0ba902b7-01", False),
            (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
            (f"00-{TRACE}-{'0' * 16}-01", False),
            (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", False),
            (f"00-{TRACE}-00f067aa0ba902b7", False),
            ("", False),
            ("x\n" * 100, False),
        ],
    )
    def test_what_is_one(self, header: str, kept: bool) -> None:
        assert (trace_of(header) == self.TRACE) is kept
        assert len(trace_of(header)) == 32

    def test_a_builds_goes_into_the_workers_log(
        self, client: TestClient, store: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "goldsmith")
        header = {"traceparent": f"00-{self.TRACE}-00f067aa0ba902b7-01"}
        made = client.post("/v1/builds", json={"recipe": "web"}, headers=header).json()["id"]
        other = client.post("/v1/builds", json={"recipe": "python"}).json()["id"]
        with store.read() as session:
            assert builds.get(session, made).trace == self.TRACE
            assert builds.get(session, other).trace not in (None, self.TRACE)

        def work(_: Task) -> dict[str, object]:
            raise GoldsmithError("no")

        run_stage(store, BUILD, made, work, lambda _: None, lease_seconds=60, log_limit=4096, maximum_attempts=1)
        told = [record.getMessage() for record in caplog.records if record.name == "goldsmith"]
        assert f"build {made}: the build stage begins [trace {self.TRACE}]" in told
        assert any(f"{made} is failed" in line and line.endswith(f"[trace {self.TRACE}]") for line in told)


def test_every_examples_answer_is_documented_with_its_limits(app: FastAPI) -> None:
    document = create_app(Settings(database_url="sqlite://")).openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert {"414", "431"} <= set(operation["responses"]), (method, path)
            if "security" in operation:
                assert "429" in operation["responses"], (method, path)
    assert json.dumps(document)


# A policy, its rules, of which the code has so many, and a verdict.
OF_ONE_THING = {"/v1/policies", "/v1/policies/rules", "/v1/builds/{build_id}/verdict"}


def test_every_list_comes_in_pages(app: FastAPI) -> None:
    document = app.openapi()
    lists = []
    for path, operations in document["paths"].items():
        answer = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        name = answer.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        members = document["components"]["schemas"].get(name, {}).get("properties", {})
        if (
            path.endswith("}")
            or path in OF_ONE_THING
            or not any("$ref" in one.get("items", {}) for one in members.values())
        ):
            continue
        lists.append(path)
        asked = {one["name"]: one["schema"] for one in operations["get"]["parameters"] if one["in"] == "query"}
        assert "next" in members, path
        assert path.endswith("/logs") or asked["limit"]["maximum"] <= 500, path  # a page of a log has 1000 lines
        assert {"before", "after"} & set(asked), path
    assert {"/v1/builds", "/v1/webhooks", "/v1/recipes", "/v1/images/{digest}/attestations"} <= {*lists}
