"""Webhooks: who is told what, signed as Standard Webhooks say, what came of it, and that none reaches inside."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from builder.pipeline import notifying
from builder.pipeline.errands import run_errand
from builder.pipeline.notifying import deliver, give_up
from builder.pipeline.services import Services
from builder.settings import Settings
from builder.store import builds, errands, keys, webhooks
from builder.store.database import Database
from builder.store.errands import ErrandKind
from builder.store.schema import Errand
from builder.store.states import State
from tests.unit.api import end, problem, submit
from workers.dispatcher import configure_webhook

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]


@dataclass
class Hook:
    """A receiver, and what it answers."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    taken: list[tuple[dict[str, str], str]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found.taken.append(({name.lower(): value for name, value in self.headers.items()}, content))
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.send_header("Location", f"{found.url}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_private": True})


def create(client: TestClient, url: str, *events: str) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": url, "events": list(events) or ["*"], "description": "a test"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/v1/webhooks/{made['id']}"
    return made


def work(app: FastAPI) -> None:
    """What the scan worker does about all notices that are due, as if no time had to pass."""
    services: Services = app.state.services
    with services.database.write() as session:
        session.execute(update(Errand).where(Errand.done_at.is_(None)).values(due_at=0, published_at=None))
        numbers = [one.id for one in errands.due(session) if one.kind == ErrandKind.NOTIFY]
    for number in numbers:
        run_errand(
            services.database, ErrandKind.NOTIFY, number, lambda taken: deliver(services, taken), lease_seconds=60,
            give_up=lambda taken, error: give_up(services, taken, error), most_tries=3,
        )  # fmt: skip


def log_of(client: TestClient, webhook: str, **query: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/webhooks/{webhook}/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["deliveries"]
    return found


def test_the_end_of_a_build_is_told_and_a_stock_receiver_verifies_it(
    client: TestClient, app: FastAPI, store: Database, hook: Hook
) -> None:
    made = create(client, hook.url, "build.*")
    build = submit(store)
    end(store, build)
    work(app)
    ((headers, content),) = hook.taken
    told = Receiver(made["secret"]).verify(content, headers)
    assert told["type"] == "build.failed"
    assert told["data"]["build"] == build
    assert told["data"]["recipe"] == "web"
    assert told["data"]["problem"]["title"] == "A command failed"
    with pytest.raises(WebhookVerificationError):
        Receiver(webhooks.new_secret()).verify(content, headers)
    with pytest.raises(WebhookVerificationError):
        Receiver(made["secret"]).verify(content.replace("failed", "released"), headers)
    (delivered,) = log_of(client, made["id"])
    assert (delivered["state"], delivered["status"], delivered["tries"]) == ("delivered", 204, 1)
    assert delivered["message"] == headers["webhook-id"]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (["*"], ["build.failed", "build.cancelled", "key.revoked"]),
        (["build.*"], ["build.failed", "build.cancelled"]),
        (["build.cancelled"], ["build.cancelled"]),
        (["key.revoked"], ["key.revoked"]),
        (["findings.risen"], []),
    ],
)
def test_it_is_told_what_it_asked_for_and_nothing_else(
    client: TestClient, app: FastAPI, store: Database, hook: Hook, wanted: list[str], told: list[str]
) -> None:
    create(client, hook.url, *wanted)
    end(store, submit(store))
    end(store, submit(store), State.CANCELLED)
    with store.write() as session:
        keys.create_key(session, "leaver")
        keys.revoke(session, "leaver")
    work(app)
    assert [json.loads(content)["type"] for _, content in hook.taken] == told


def test_a_build_whose_end_does_not_come_true_is_not_told(
    client: TestClient, app: FastAPI, store: Database, hook: Hook
) -> None:
    create(client, hook.url)
    build = submit(store)

    def rolled_back() -> None:
        with store.write() as session:
            builds.request_cancel(session, build)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        rolled_back()
    work(app)
    assert hook.taken == []


@pytest.mark.parametrize("answer", [500, 429, 404, 301, 307])
def test_what_it_does_not_take_is_sent_again_under_the_same_id_and_never_elsewhere(
    client: TestClient, app: FastAPI, hook: Hook, answer: int
) -> None:
    made = create(client, hook.url)
    hook.answers.append(answer)
    assert client.post(f"/v1/webhooks/{made['id']}/test").status_code == 202
    work(app)
    (pending,) = log_of(client, made["id"], state="pending")
    assert (pending["status"], pending["tries"]) == (answer, 1)
    assert str(answer) in pending["problem"]["detail"]
    work(app)
    assert len({headers["webhook-id"] for headers, _ in hook.taken}) == 1
    (delivered,) = log_of(client, made["id"], state="delivered")
    assert (delivered["tries"], delivered["problem"]) == (2, None)


def test_after_the_last_try_it_is_given_up_and_can_be_replayed(client: TestClient, app: FastAPI, hook: Hook) -> None:
    made = create(client, hook.url)
    hook.answers += [503, 503, 503]
    number = client.post(f"/v1/webhooks/{made['id']}/test").json()["id"]
    for _ in range(4):
        work(app)
    assert len(hook.taken) == 3
    (failed,) = log_of(client, made["id"])
    assert (failed["state"], failed["tries"], failed["status"]) == ("failed", 3, 503)
    again = client.post(f"/v1/webhooks/{made['id']}/deliveries/{number}/replay")
    assert again.status_code == 202
    work(app)
    newest, oldest = log_of(client, made["id"])
    assert (newest["state"], newest["message"]) == ("delivered", oldest["message"])
    assert hook.taken[0][1] == hook.taken[-1][1]
    shown = client.get(f"/v1/webhooks/{made['id']}/deliveries/{newest['id']}").json()
    assert shown["payload"] == json.loads(hook.taken[-1][1])


def test_one_that_says_it_is_gone_is_told_nothing_more(
    client: TestClient, app: FastAPI, store: Database, hook: Hook
) -> None:
    made = create(client, hook.url)
    hook.answers.append(410)
    end(store, submit(store))
    work(app)
    end(store, submit(store))
    work(app)
    assert len(hook.taken) == 1
    (failed,) = log_of(client, made["id"])
    assert failed["state"] == "failed"
    assert client.get(f"/v1/webhooks/{made['id']}").json()["ended"] == "gone"
    problem(client.post(f"/v1/webhooks/{made['id']}/test"), 409, "webhook-ended")


def test_one_that_is_removed_is_not_even_sent_what_was_on_its_way(client: TestClient, app: FastAPI, hook: Hook) -> None:
    made = create(client, hook.url)
    client.post(f"/v1/webhooks/{made['id']}/test")
    assert client.delete(f"/v1/webhooks/{made['id']}").json()["ended"] == "removed"
    work(app)
    assert hook.taken == []
    (failed,) = log_of(client, made["id"])
    assert failed["state"] == "failed"
    assert client.get("/v1/webhooks").json()["webhooks"] == []
    assert [one["id"] for one in client.get("/v1/webhooks?ended=true").json()["webhooks"]] == [made["id"]]


def test_they_are_listed_newest_first_page_by_page(client: TestClient, hook: Hook, store: Database) -> None:
    made = [create(client, hook.url)["id"] for _ in range(3)]
    with store.write() as session:
        session.execute(update(webhooks.Webhook).values(created_at=1.0))  # at once: then their ids decide
    newest = sorted(made, reverse=True)
    page = client.get("/v1/webhooks?limit=2").json()
    assert [one["id"] for one in page["webhooks"]] == newest[:2]
    client.delete(f"/v1/webhooks/{newest[1]}")  # where the next page begins
    last = client.get(page["next"]).json()
    assert ([one["id"] for one in last["webhooks"]], last["next"]) == (newest[2:], None)
    problem(client.get(f"/v1/webhooks?before={'0' * 16}"), 404, "webhook-unknown")
    told = problem(client.get("/v1/webhooks/ci"), 422, "request-invalid")
    assert "path.webhook_id: 'ci' does not match ^(" in told.detail


def test_the_secret_is_shown_once(client: TestClient, hook: Hook) -> None:
    made = create(client, hook.url)
    for path in (f"/v1/webhooks/{made['id']}", "/v1/webhooks", "/v1/audit"):
        assert made["secret"] not in client.get(path).text
    assert client.get(f"/v1/webhooks/{made['id']}").json()["secret"] is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://203.0.113.9/hook", "plain HTTP"),
        ("ftp://hooks.example/", "https://HOST/PATH"),
        ("https://user:secret@hooks.example/", "without a user"),
        ("https://hooks.example/#part", "fragment"),
        ("https://hooks.example:99999/", "no URL"),
        ("https://127.0.0.1/", "no public address"),
        ("https://localhost/", "no public address"),
        ("https://[::1]/", "no public address"),
        ("https://[::ffff:10.0.0.1]/", "no public address"),
        ("https://169.254.169.254/latest/meta-data/", "no public address"),
        ("https://0x7f.1/", "no public address"),
        ("https://2130706433/", "no public address"),
        ("https://127.1/", "no public address"),
    ],
)
def test_no_address_inside_is_taken(client: TestClient, app: FastAPI, settings: Settings, url: str, why: str) -> None:
    app.state.settings = settings.model_copy(update={"webhook_private": False})
    told = problem(client.post("/v1/webhooks", json={"url": url, "events": ["*"]}), 422, "webhook-refused")
    assert why in told.detail
    assert "secret" not in told.detail


def test_a_name_that_comes_to_mean_an_inner_address_is_not_spoken_to(
    client: TestClient, app: FastAPI, settings: Settings, hook: Hook
) -> None:
    """What counts is where the name leads when the notice is sent."""
    made = create(client, hook.url.replace("127.0.0.1", "localhost"))
    client.post(f"/v1/webhooks/{made['id']}/test")
    app.state.services = Services(settings.model_copy(update={"webhook_private": False}))
    with app.state.database.write() as session:
        webhooks.get(session, made["id"]).url = "https://localhost/hook"
    work(app)
    assert hook.taken == []
    (failed,) = log_of(client, made["id"])
    assert (failed["state"], failed["problem"]["type"]) == ("failed", "/problems/webhook-refused")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "https://hooks.example/", "events": ["build.exploded"]}, "events.0"),
        ({"url": "https://hooks.example/", "events": []}, "events"),
        ({"url": "", "events": ["*"]}, "url"),
        ({"events": ["*"]}, "url"),
        ({"url": "https://hooks.example/", "events": ["*"], "secret": "x"}, "secret"),
    ],
)
def test_a_request_with_a_fault_names_it(client: TestClient, body: dict[str, Any], field: str) -> None:
    assert field in problem(client.post("/v1/webhooks", json=body), 422, "request-invalid").detail


def test_the_webhook_of_the_settings_stands_beside_the_others(
    client: TestClient, app: FastAPI, store: Database, settings: Settings, hook: Hook, tmp_path: Any
) -> None:
    secret = webhooks.new_secret()
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text(secret)
    told = {"webhook_url": hook.url, "webhook_secret_file": tmp_path / "secret", "webhook_events": ("build.failed",)}
    app.state.services = services = Services(settings.model_copy(update=told))
    configure_webhook(services)
    end(store, submit(store))
    end(store, submit(store), State.CANCELLED)
    work(app)
    ((headers, content),) = hook.taken
    assert Receiver(secret).verify(content, headers)["type"] == "build.failed"
    assert [one["id"] for one in client.get("/v1/webhooks").json()["webhooks"]] == ["configured"]
    configure_webhook(Services(settings))
    assert client.get("/v1/webhooks").json()["webhooks"] == []


def test_a_receiver_that_answers_a_byte_at_a_time_holds_nobody(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifying, "_SECONDS", 1.0)
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def dribble() -> None:
            connection, _ = server.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 60:
                    if stopped.wait(0.1):
                        return
                    try:
                        connection.send(bytes([byte]))
                    except OSError:
                        return

        receiver = threading.Thread(target=dribble)
        receiver.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        made = create(client, url)
        client.post(f"/v1/webhooks/{made['id']}/test")
        begun = time.monotonic()
        work(app)
        took = time.monotonic() - begun
        stopped.set()
        receiver.join()
    assert 0.9 < took < 3
    (told,) = log_of(client, made["id"])
    assert told["state"] == "pending"
    assert "has not answered within 1 seconds" in told["problem"]["detail"]


def test_an_unknown_one_is_told_so(client: TestClient, hook: Hook) -> None:
    problem(client.get(f"/v1/webhooks/{'0' * 16}"), 404, "webhook-unknown")
    made, other = create(client, hook.url), create(client, hook.url)
    number = client.post(f"/v1/webhooks/{made['id']}/test").json()["id"]
    problem(client.get(f"/v1/webhooks/{other['id']}/deliveries/{number}"), 404, "delivery-unknown")
    problem(client.post(f"/v1/webhooks/{made['id']}/deliveries/{number + 9}/replay"), 404, "delivery-unknown")


def test_the_log_comes_in_pages(client: TestClient, hook: Hook) -> None:
    made = create(client, hook.url)
    for _ in range(5):
        client.post(f"/v1/webhooks/{made['id']}/test")
    path, seen = f"/v1/webhooks/{made['id']}/deliveries?limit=2", []
    while path:
        page = client.get(path).json()
        seen += [one["id"] for one in page["deliveries"]]
        path = page["next"]
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == 5
