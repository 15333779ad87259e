"""The client against a real API: what it asks, what it does when the connection breaks, and where the key goes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, RedirectResponse

from builder.client.api import Client
from builder.client.errors import AnswerUnexpected, ApiProblem, ApiUnreachable, KeyInvalid, UrlInvalid
from builder.client.events import Ended, Logged
from builder.planning.lockfile import format_lock, parse_lock
from builder.store.attachments import Kind
from tests.unit import locks
from tests.unit.cli_server import IMAGE, OTHER, Api, free_port, running_api, serving

MINE = {
    "apiVersion": "goldsmith/v1",
    "kind": "Image",
    "metadata": {"name": "mine"},
    "spec": {"base": {"debian": {"suite": "trixie"}}, "publish": {"repository": "me/mine"}},
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api") / "state") as running:
        yield running


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(api.url, api.key) as connected:
        yield connected


@contextmanager
def cutting_proxy(port: int, cuts: int) -> Iterator[int]:
    """Forwards to a port, and cuts the first connections after about 1000 bytes, wherever that is."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = [cuts]

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=forward, args=(near,), daemon=True).start()

    def forward(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            far.sendall(near.recv(65536))
            sent = 0
            while chunk := far.recv(256):
                near.sendall(chunk)
                sent += len(chunk)
                if left[0] and sent > 1000:
                    left[0] -= 1
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_builds_are_asked_for_listed_seen_and_cancelled(client: Client) -> None:
    submitted = client.submit("web")
    assert (submitted.recipe, submitted.state, submitted.ended) == ("web", "queued", False)
    assert client.build(submitted.id) == submitted
    assert submitted.id in [build.id for build in client.builds(recipe="web", state="queued")]
    assert client.cancel(submitted.id).state == "cancelled"
    assert submitted.id not in [build.id for build in client.builds(state="queued")]


def test_a_list_longer_than_a_page_is_joined(tmp_path: Path) -> None:
    with running_api(tmp_path / "state") as api, Client(api.url, api.key) as client:
        made = [client.submit("web").id for _ in range(103)]
        assert [build.id for build in client.builds(limit=102)] == sorted(made, reverse=True)[:102]


def test_a_log_longer_than_a_page_is_read_whole_also_while_the_build_runs(api: Api, client: Client) -> None:
    build = client.submit("web")
    api.worker(build.id).log("run", *[f"line {number}" for number in range(2500)])
    assert [line.text for line in client.log(build.id)] == [f"line {number}" for number in range(2500)]
    client.cancel(build.id)
    assert len(list(client.log(build.id))) == 2500


def test_a_followed_build_loses_and_repeats_no_line_when_the_connection_is_cut(api: Api, client: Client) -> None:
    build = client.submit("web")
    worker = api.worker(build.id)
    worker.log("run", *[f"line {number}" for number in range(40)])
    worker.release(IMAGE)
    lost: list[str] = []
    port = int(api.url.rsplit(":", 1)[1])
    with cutting_proxy(port, cuts=2) as near, Client(f"http://127.0.0.1:{near}", api.key) as cut_off:
        events = list(cut_off.follow(build.id, on_lost=lost.append))
    numbers = [event.line.number for event in events if isinstance(event, Logged)]
    assert numbers == list(range(1, 42))
    assert isinstance(events[-1], Ended)
    assert events[-1].build.released
    assert len(lost) == 2


def test_following_gives_up_after_its_patience_and_says_how_to_go_on(api: Api) -> None:
    with Client(f"http://127.0.0.1:{free_port()}", api.key) as client, pytest.raises(ApiUnreachable) as told:
        list(client.follow("01jd3m5w8rk0q1v6y2x7z4n9bt", patience=0.3))
    assert "goldsmith logs --follow 01jd3m5w8rk0q1v6y2x7z4n9bt" in str(told.value)


def test_following_what_is_not_there_is_not_tried_again(client: Client) -> None:
    with pytest.raises(ApiProblem, match="there is no build"):
        list(client.follow("nothing", on_lost=pytest.fail))


def test_evidence_is_given_byte_for_byte(api: Api, client: Client) -> None:
    build = client.submit("web")
    worker = api.worker(build.id)
    worker.attach(Kind.PROVENANCE, "application/json", b'{"a":\n1}')
    worker.attach(Kind.INVENTORY, "application/octet-stream", b"\x28\xb5\x2f\xfd")
    worker.release(IMAGE)
    assert client.provenance(IMAGE) == b'{"a":\n1}'
    assert client.inventory(IMAGE) == b"\x28\xb5\x2f\xfd"
    assert client.image(IMAGE).reference.endswith(f"golden/web@{IMAGE}")


def test_a_lock_is_asked_for_and_given_once_it_is_resolved(api: Api, client: Client) -> None:
    asked = client.submit_lock("web")
    assert (asked.purpose, asked.state, asked.succeeded) == ("lock", "queued", False)
    with pytest.raises(ApiProblem, match="has resolved nothing"):
        client.lock(asked.id)
    made = locks.lock()
    api.worker(asked.id).lock(made)
    ended = client.build(asked.id)
    assert (ended.state, ended.ended, ended.succeeded, ended.released) == ("locked", True, True, False)
    assert parse_lock(client.lock(asked.id)) == made


def test_the_lock_of_a_recipe_is_the_one_beside_it(api: Api, client: Client) -> None:
    with pytest.raises(ApiProblem) as told:
        client.recipe_lock("web")
    assert told.value.told.slug == "recipe-not-locked"
    beside = api.directory / "recipes" / "web.lock.json"
    beside.write_text(format_lock(locks.lock()))
    try:
        assert parse_lock(client.recipe_lock("web")) == locks.lock()
    finally:
        beside.unlink()


def test_a_lock_that_is_none_is_refused_with_its_fields(client: Client) -> None:
    with pytest.raises(ApiProblem) as told:
        client.submit(MINE, lock={"version": 2})
    assert told.value.told.slug == "lock-invalid"
    assert "version" in [fault.field for fault in told.value.errors]
    with pytest.raises(ApiProblem, match="lockUse says not to use one"):
        client.submit(MINE, lock={"version": 1}, lock_use="update")


def test_a_rebuild_is_asked_for_of_an_image_that_was_released(api: Api, client: Client) -> None:
    with pytest.raises(ApiProblem) as told:
        client.submit_rebuild(OTHER, offline=False)
    assert told.value.told.slug == "image-unknown"
    api.worker(client.submit("web").id).release(IMAGE)
    asked = client.submit_rebuild(IMAGE, offline=True)
    assert (asked.purpose, asked.subject, asked.succeeded, asked.rebuild) == ("rebuild", IMAGE, False, None)


def test_a_problem_comes_as_it_was_told(client: Client) -> None:
    with pytest.raises(ApiProblem) as told:
        client.submit("wbe")
    assert told.value.told.slug == "recipe-unknown"
    assert told.value.hint == "did you mean 'web'?"


def test_an_invalid_recipe_comes_with_all_its_faults(client: Client) -> None:
    with pytest.raises(ApiProblem) as told:
        client.submit({"apiVersion": "goldsmith/v1", "kind": "Imge", "metadata": {"nme": "x"}})
    assert len(told.value.errors) >= 3


@pytest.mark.parametrize("key", [None, "gs_wrong"])
def test_without_a_good_key_the_way_out_is_told(api: Api, key: str | None) -> None:
    with Client(api.url, key) as client, pytest.raises(ApiProblem, match=r"goldsmith login.*key create") as told:
        client.builds()
    assert told.value.told.status == 401
    assert "gs_wrong" not in str(told.value)


def test_nobody_there_is_told_with_the_address_and_the_way_out() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as client, pytest.raises(ApiUnreachable, match=r"Connection refused \(start it, or name") as told:
        client.recipes()
    assert url in str(told.value)
    assert "Errno" not in str(told.value)


def test_something_else_at_the_address_is_recognised() -> None:
    other = FastAPI(openapi_url=None)

    @other.get("/v1/recipes")
    def recipes() -> PlainTextResponse:
        return PlainTextResponse("<h1>hello</h1>", media_type="text/html")

    @other.get("/v1/builds")
    def builds() -> dict[str, str]:
        return {"hello": "world"}

    with serving(other) as port, Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(AnswerUnexpected, match="is there a Goldsmith API"):
            client.recipes()
        with pytest.raises(AnswerUnexpected, match="is not a BuildPage"):
            client.builds()
        with pytest.raises(AnswerUnexpected, match="404"):
            client.trust()


def test_a_redirect_does_not_carry_the_key_away() -> None:
    seen: list[str] = []
    thief, redirecting = FastAPI(), FastAPI()

    @thief.get("/{path:path}")
    def take(request: Request) -> dict[str, str]:
        seen.append(request.headers.get("authorization", ""))
        return {}

    with serving(thief) as thief_port:

        @redirecting.get("/{path:path}")
        def away() -> RedirectResponse:
            return RedirectResponse(f"http://127.0.0.1:{thief_port}/")

        with (
            serving(redirecting) as port,
            Client(f"http://127.0.0.1:{port}", "gs_secret") as client,
            pytest.raises(AnswerUnexpected, match="307"),
        ):
            client.builds()
    assert seen == []


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Client(api.url, api.key) as client:
        assert client.recipes().recipes


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", "file:///etc/passwd", "http://[::1"])
def test_what_is_no_address_of_an_api_is_refused_at_once(url: str) -> None:
    with pytest.raises(UrlInvalid, match="http://HOST:PORT"):
        Client(url)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UrlInvalid) as told:
        Client("http://user:secret@host")
    assert "secret" not in str(told.value)


def test_a_key_with_a_line_end_is_refused_and_not_repeated() -> None:
    with pytest.raises(KeyInvalid) as told:
        Client("http://host", "gs_secret\n")
    assert "gs_secret" not in str(told.value)
