"""What an operator sees of a service whose hosts nobody logs in to: logs, metrics, traces, and rules that use them."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery.signals import worker_process_shutdown
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from builder.api.app import create_app
from builder.errors import Unavailable
from builder.logs import JsonLines, current_build, current_request
from builder.pipeline.services import Services
from builder.pipeline.stage import Outcome, Task
from builder.pipeline.traced import tell_stage
from builder.settings import Settings
from builder.spans import Spans, span_id
from builder.store import journal, keys
from builder.store.database import Database
from builder.store.scopes import Scope
from builder.store.states import BUILD, State
from builder.tracing import current_trace
from tests.unit import stored
from tests.unit.api import end, problem, submit
from workers import running

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def metrics(client: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


class TestLogs:
    def test_a_line_is_an_object_with_what_it_is_about(self) -> None:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonLines())
        logger = logging.Logger("goldsmith.test")
        logger.addHandler(handler)
        tokens = current_build.set("b1"), current_request.set("r1"), current_trace.set(TRACE)
        try:
            logger.warning("two\nlines and “quotes”")
            try:
                raise ZeroDivisionError
            except ZeroDivisionError:
                logger.exception("broke")
        finally:
            current_build.reset(tokens[0])
            current_request.reset(tokens[1])
            current_trace.reset(tokens[2])
        logger.info("nothing is worked on")
        first, second, third = (json.loads(line) for line in stream.getvalue().splitlines())
        assert (first["message"], first["level"]) == ("two\nlines and “quotes”", "warning")
        assert (first["build"], first["request"], first["trace"]) == ("b1", "r1", TRACE)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first["time"])
        assert "ZeroDivisionError" in second["exception"]
        assert {"build", "request", "trace", "exception"}.isdisjoint(third)


class TestMetrics:
    def test_they_say_what_waits_and_what_ended_and_why(self, client: TestClient, store: Database) -> None:
        submit(store)
        end(store, submit(store, "python"))
        found = metrics(client)
        assert found["goldsmith_builds_open", (("state", "queued"),)] == 1
        assert found["goldsmith_queue_messages", (("queue", "build"),)] == 1
        assert found["goldsmith_queue_oldest_seconds", (("queue", "build"),)] >= 0
        ended = (("family", "rejected"), ("problem", "/problems/run-failed"), ("state", "failed"))
        assert found["goldsmith_builds_ended_last_hour", ended] == 1
        assert found["goldsmith_ledger_entries_unsigned", ()] == 0

    def test_they_count_what_an_earlier_release_answered(self, client: TestClient, store: Database) -> None:
        assert metrics(client)["goldsmith_builds_unchanged_last_hour", ()] == 0
        earlier = {"unchanged": {"build_id": "0" * 26, "digest": "sha256:" + "a" * 64}}
        for name, evidence in (("unchanged", earlier), ("unchanged", earlier), ("resolve", {})):
            held = stored.claim(store, submit(store))
            with store.write() as session:
                step = journal.begin_step(session, held.build_id, 1, name)
                journal.finish_step(session, step, "done", "")
            stored.complete(store, held, **evidence)
        assert metrics(client)["goldsmith_builds_unchanged_last_hour", ()] == 2

    def test_requests_are_counted_by_route_and_not_by_what_a_caller_makes_up(self, client: TestClient) -> None:
        for path in ("/v1/builds/01m8n36h6z3n71vax8sg69rv52", "/made/up/1", "/made/up/2"):
            client.get(path)
        found = metrics(client)
        assert (
            found[
                "goldsmith_http_requests_total",
                (("method", "GET"), ("route", "/v1/builds/{build_id}"), ("status", "404")),
            ]
            == 1
        )
        unknown = (("method", "any"), ("route", "none"), ("status", "404"))
        assert found["goldsmith_http_requests_total", unknown] == 2
        assert not [name for name in found if "made" in str(name)]

    def test_what_broke_and_methods_that_nobody_has_are_counted_too(self, app: FastAPI, client: TestClient) -> None:
        def broken() -> None:
            raise KeyError

        app.add_api_route("/broken", broken)
        assert client.get("/broken").status_code == 500
        assert client.request("FROB", "/v1/builds").status_code == 405
        found = metrics(client)
        broke = (("method", "GET"), ("route", "/broken"), ("status", "500"))
        refused = (("method", "any"), ("route", "none"), ("status", "405"))
        assert found["goldsmith_http_requests_total", broke] == 1
        assert found["goldsmith_http_requests_total", refused] == 1

    def test_they_are_for_callers_who_may_see_builds(self, anyone: TestClient, store: Database) -> None:
        problem(anyone.get("/metrics"), 401, "not-authenticated")
        with store.write() as session:
            key = keys.create_key(session, "auditor", [Scope.PROVENANCE_READ])
        problem(anyone.get("/metrics", headers={"Authorization": f"Bearer {key}"}), 403, "scope-missing")


class TestRules:
    def expressions(self) -> Iterator[str]:
        alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())
        for group in alerts["groups"]:
            yield from (rule["expr"] for rule in group["rules"])
        board = json.loads((DEPLOY / "grafana/goldsmith.json").read_text())
        for panel in board["panels"]:
            yield from (target["expr"] for target in panel["targets"])

    def test_alerts_and_the_dashboard_ask_for_what_is_there(self, client: TestClient, store: Database) -> None:
        end(store, submit(store), State.FAILED)
        submit(store)
        families = {family.name for family in text_string_to_metric_families(client.get("/metrics").text)} | {
            "goldsmith_vulnerability_database_age_seconds"
        }
        asked = {name for text in self.expressions() for name in re.findall(r"goldsmith_[a-z0-9_]+", text)}
        assert len(asked) >= 9
        missing = {name for name in asked if re.sub("_(total|bucket)$", "", name) not in families}
        assert missing == set()


class Collector(BaseHTTPRequestHandler):
    spans: list[Any]

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                type(self).spans.extend(scope.spans)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP collector on loopback: its URL, and the spans it was told."""
    spans: list[Any] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Told", (Collector,), {"spans": spans}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
    server.shutdown()
    server.server_close()


class TestTraces:
    def test_a_request_and_its_build_are_one_trace_under_the_callers_span(
        self, settings: Settings, collector: tuple[str, list[Any]]
    ) -> None:
        url, told = collector
        app = create_app(settings.model_copy(update={"traces_url": url}))
        store: Database = app.state.database
        with TestClient(app) as client:
            with store.write() as session:
                client.headers["Authorization"] = f"Bearer {keys.create_key(session, 'ci')}"
            answer = client.post(
                "/v1/builds", json={"recipe": "web"}, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"}
            )
            build_id = answer.json()["id"]
            end(store, build_id)
            worker = Spans(url, "goldsmith-build")
            tell_stage(worker, store, build_id, "build", 0.0, Outcome(1, State.FAILED, "A command failed"))
            worker.close()
        spans = {span.name: span for span in told}
        assert set(spans) == {"POST /v1/builds", "build", "build web"}
        assert {span.trace_id.hex() for span in told} == {TRACE}
        assert spans["POST /v1/builds"].parent_span_id.hex() == CALLER
        assert spans["build web"].span_id.hex() == span_id("build", build_id) == spans["build"].parent_span_id.hex()
        assert spans["build web"].status.message == "A command failed"

    def test_each_attempt_is_a_span_and_none_is_lost_when_its_process_ends(
        self,
        settings: Settings,
        collector: tuple[str, list[Any]],
        client: TestClient,
        store: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        url, told = collector
        adapters = Services(settings.model_copy(update={"traces_url": url}))
        monkeypatch.setattr(running, "services", lambda: adapters)
        running.spans.cache_clear()
        build_id = client.post("/v1/builds", json={"recipe": "web"}).json()["id"]

        class Fails:
            def __init__(self, _: Services) -> None:
                pass

            def work(self, task: Task) -> dict[str, object]:
                with task.journal.step("run"):
                    if task.claim.attempt == 1:
                        raise Unavailable("the registry is away")
                return {}

            def clean_up(self, build_id: str) -> None:
                pass

        running.run(BUILD, Fails, build_id)
        running.run(BUILD, Fails, build_id)
        worker_process_shutdown.send(sender=None, pid=1, exitcode=0)
        running.spans.cache_clear()
        stages = {
            attribute.value.int_value: span
            for span in told
            for attribute in span.attributes
            if attribute.key == "goldsmith.attempt"
        }
        assert {attempt: span.status.message for attempt, span in stages.items()} == {1: Unavailable.title, 2: ""}
        steps = {span.status.message: span.parent_span_id for span in told if span.name == "run"}
        assert steps == {"failed": stages[1].span_id, "": stages[2].span_id}

    def test_a_collector_that_is_away_stops_nothing(self, settings: Settings) -> None:
        app = create_app(settings.model_copy(update={"traces_url": "http://127.0.0.1:9/v1/traces"}))
        with TestClient(app) as client:
            assert client.get("/healthz").status_code == 200
