"""Comparisons through the API: what is taken in, what is refused before it costs anything, what is left behind."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from builder.api.negotiating import wanted_form
from builder.forensics.forms import Form
from builder.forensics.page import page_policy
from builder.forensics.report import (
    MEDIA_TYPE,
    FindingTold,
    Golden,
    Report,
    SubjectTold,
    Times,
    Told,
    Tool,
    Totals,
    VerifiedBy,
)
from builder.forensics.subjects.subject import SubjectKind
from builder.pipeline.evidence import ComparedSubject, ComparisonEvidence, kept
from builder.settings import Settings
from builder.store import attachments, builds
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.schema import Build, OutboxRow, Release
from builder.store.states import COMPARE, SCAN, Purpose, State
from tests.unit.api import problem, submit
from tests.unit.evidence import digest, whole_evidence

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

GOLDEN = digest("a")
PATH = "/v1/comparisons"
TAR = "application/x-tar"
LIMIT = 10_000


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        recipes_directory=tmp_path,
        state_directory=tmp_path / "state",
        registry="127.0.0.1:1",  # where nobody answers
        comparison_bytes=LIMIT,
    )


@pytest.fixture(autouse=True)
def released(app: FastAPI, store: Database) -> str:
    services = app.state.services
    services.registry = services.impatient_registry
    build_id = submit(store)
    with store.write() as session:
        build = builds.get(session, build_id)
        build.evidence, build.state = whole_evidence(), State.RELEASED
        session.query(OutboxRow).delete()
        session.add(
            Release(
                build_id=build_id, digest=GOLDEN, recipe_name="web", recipe_digest=build.recipe_digest,
                registry_host="127.0.0.1:1", repository="golden/web", tags=[], released_at=time.time(),
            )
        )  # fmt: skip
    return build_id


@pytest.fixture
def nothing_left(app: FastAPI, store: Database) -> Iterator[None]:
    """However it was refused: no build, and no file."""
    yield
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(Build)) == 1
    assert list(app.state.services.uploads.iterdir()) == []


def upload(client: TestClient, content: Any, media_type: str = TAR, golden: str = GOLDEN, **headers: str) -> Any:
    return client.post(
        PATH, params={"golden": golden}, content=content, headers={"Content-Type": media_type, **headers}
    )


@pytest.mark.usefixtures("nothing_left")
class TestUploadsRefused:
    def test_too_large_by_its_length_before_a_byte_is_read(self, client: TestClient) -> None:
        def never() -> Iterator[bytes]:
            raise AssertionError("the body was read")
            yield b""

        told = problem(upload(client, never(), **{"Content-Length": str(LIMIT + 1)}), 413, "body-too-large")
        assert str(LIMIT) in told.detail
        assert "goldsmith inventory" in (told.hint or "")

    def test_too_large_though_no_length_was_told(self, client: TestClient) -> None:
        problem(upload(client, iter([b"x" * 4000] * 4)), 413, "body-too-large")

    def test_cut_short(self, client: TestClient) -> None:
        told = problem(upload(client, iter([b"x" * 10]), **{"Content-Length": "1000"}), 400, "upload-cut-short")
        assert "10 of 1000 bytes" in told.detail

    @pytest.mark.parametrize(
        "media_type", ["application/zip", "application/octet-stream", "text/plain", "application/x-tar+xz", ""]
    )
    def test_of_another_type(self, client: TestClient, media_type: str) -> None:
        told = problem(upload(client, b"x", media_type), 415, "media-type-unsupported")
        assert "application/vnd.goldsmith.inventory.v1+zstd" in (told.hint or "")

    def test_without_a_golden_image(self, client: TestClient) -> None:
        answer = client.post(PATH, content=b"x", headers={"Content-Type": TAR})
        assert "golden" in problem(answer, 422, "request-invalid").detail

    def test_for_an_image_that_was_not_released_here(self, client: TestClient) -> None:
        problem(upload(client, b"x", golden=digest("b")), 404, "image-unknown")

    @pytest.mark.parametrize("golden", ["latest", "sha256:" + "A" * 64, "sha256:" + "a" * 63])
    def test_for_what_is_no_digest(self, client: TestClient, golden: str) -> None:
        told = problem(upload(client, b"x", golden=golden), 422, "request-invalid")
        assert told.errors[0].field == "query.golden"

    def test_that_the_registry_does_not_take(self, client: TestClient) -> None:
        problem(upload(client, b"x"), 503, "registry-unavailable")

    def test_of_callers_without_a_key(self, anyone: TestClient) -> None:
        problem(upload(anyone, b"x"), 401, "not-authenticated")


@pytest.mark.usefixtures("nothing_left")
class TestImagesRefused:
    def ask(self, client: TestClient, image: str) -> Any:
        return client.post(PATH, json={"golden": GOLDEN, "subject": {"image": image}})

    @pytest.mark.parametrize("form", ["127.0.0.1:{}/a:b", "localhost:{}/a@" + digest("c"), "[::1]:{}/a:b"])
    def test_of_another_registry_which_is_never_asked(self, client: TestClient, form: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            told = problem(self.ask(client, form.format(server.getsockname()[1])), 422, "image-elsewhere")
            assert "127.0.0.1:1," in told.detail
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()

    @pytest.mark.parametrize(
        "host",
        ["169.254.169.254", "metadata.internal:80", "127.0.0.1", "127.0.0.1:01", "localhost:1", "0.0.0.0:1",
         "127.0.0.1:1.example.com"],
    )  # fmt: skip
    def test_of_a_host_that_is_nearly_ours(self, client: TestClient, host: str) -> None:
        answer = self.ask(client, f"{host}/golden/web:latest")
        assert answer.status_code == 422
        assert answer.json()["type"] in ("/problems/image-elsewhere", "/problems/reference-invalid")

    @pytest.mark.parametrize(
        "image",
        ["web", "127.0.0.1:1/web", "127.0.0.1:1/../x:y", "http://127.0.0.1:1/web:x", "user@127.0.0.1:1/web:x",
         "127.0.0.1:1/web@sha256:0", "127.0.0.1:1/web:x?y=z", ""],
    )  # fmt: skip
    def test_that_is_no_reference_with_a_tag_or_digest(self, client: TestClient, image: str) -> None:
        assert self.ask(client, image).status_code == 422

    def test_that_cannot_be_looked_up(self, client: TestClient) -> None:
        problem(self.ask(client, "127.0.0.1:1/golden/web:latest"), 503, "registry-unavailable")

    @pytest.mark.parametrize(
        "body", [{}, {"golden": GOLDEN}, {"golden": GOLDEN, "subject": {}}, {"golden": "x", "subject": {"image": "y"}},
                 {"golden": GOLDEN, "subject": {"image": "y", "container": "z"}}],
    )  # fmt: skip
    def test_that_is_not_asked_for_as_the_schema_says(self, client: TestClient, body: dict[str, Any]) -> None:
        problem(client.post(PATH, json=body), 422, "request-invalid")


def report(verdict: Told = Told.SUSPICIOUS, path: str = "/usr/bin/<script>") -> Report:
    found = FindingTold(path=path, kinds=("added",), severity="high", rule="executable", reason="A new program.")
    return Report(
        verdict=verdict,
        complete=True,
        golden=Golden(
            image="x", digest=GOLDEN, inventory_digest=digest("b"), entries=3,
            verified=VerifiedBy(identity="i", issuer="s", trust="t", trust_from_server=True, sandbox=True),
        ),
        subject=SubjectTold(kind="archive", name="host-7", entries=4),
        totals=Totals(
            findings=1, configuration=0, expected=0, expected_configuration=0, by_severity={"high": 1},
            by_kind={"added": 1}, labels_ignored=0,
        ),
        findings=(found,),
        configuration_compared=False,
        times=Times(started=datetime(2026, 1, 2, tzinfo=UTC), finished=datetime(2026, 1, 2, tzinfo=UTC)),
        tool=Tool(version="1"),
    )  # fmt: skip


def take_in(store: Database, golden: str = GOLDEN) -> str:
    subject = ComparedSubject(kind=SubjectKind.ARCHIVE, digest=digest("e"), name="host-7", size=10)
    asked = Submission(
        "web", digest("1"), "{}", "release", "ci", purpose=Purpose.COMPARE, subject=golden,
        options={"repository": "golden/web", "subject": kept(subject)},
    )  # fmt: skip
    time.sleep(0.002)
    with store.write() as session:
        return builds.submit(session, asked).id


def compared(store: Database, found: Report | None = None) -> str:
    """As a worker does it."""
    found, build_id = found or report(), take_in(store)
    with store.write() as session:
        held = builds.claim(session, build_id, COMPARE, "w", 60)
        assert held
        kept_as = attachments.attach(session, build_id, Kind.COMPARISON, MEDIA_TYPE, found.json_text().encode())
        evidence = ComparisonEvidence(
            verdict=found.verdict, complete=True, name="host-7", totals=found.totals, inventory_digest=digest("b"),
            report_digest=kept_as, record=1,
        )  # fmt: skip
        builds.complete(session, held, comparison=kept(evidence))
    return build_id


class TestSeen:
    def test_waits_for_the_workers_that_compare(self, client: TestClient, store: Database) -> None:
        build_id = take_in(store)
        view = client.get(f"{PATH}/{build_id}").json()
        assert (view["state"], view["golden"], view["outcome"]) == ("queued", GOLDEN, None)
        assert view["subject"] == {"kind": "archive", "digest": digest("e"), "name": "host-7", "size": 10}
        with store.write() as session:
            assert session.scalars(select(OutboxRow.queue)).all() == ["compare"]
            assert builds.claim(session, build_id, SCAN, "w", 60) is None
        problem(client.get(f"{PATH}/{build_id}/report"), 409, "report-unavailable")

    def test_has_its_verdict_and_totals_and_is_a_build_like_others(self, client: TestClient, store: Database) -> None:
        build_id = compared(store)
        view = client.get(f"{PATH}/{build_id}").json()
        assert (view["state"], view["problem"], view["outcome"]["verdict"]) == ("compared", None, "suspicious")
        assert view["outcome"]["totals"]["bySeverity"] == {"high": 1}
        build = client.get(f"/v1/builds/{build_id}").json()
        assert (build["purpose"], build["state"], build["comparison"]) == ("compare", "compared", view["outcome"])
        assert client.get("/v1/builds?state=compared").json()["builds"] == [build]

    def test_is_no_other_build_and_no_other_build_is_one(
        self, client: TestClient, released: str, store: Database
    ) -> None:
        problem(client.get(f"{PATH}/{released}"), 404, "build-unknown")
        problem(client.get(f"{PATH}/{released}/report"), 404, "build-unknown")
        problem(client.get(f"{PATH}/nothing"), 404, "build-unknown")
        take_in(store)
        assert client.get(f"/v1/images/{GOLDEN}/rebuilds").json()["builds"] == []

    def test_is_listed_newest_first_page_by_page_and_by_golden_image(self, client: TestClient, store: Database) -> None:
        ids = [take_in(store) for _ in range(3)]
        other = take_in(store, digest("b"))
        page = client.get(f"{PATH}?limit=2").json()
        assert [one["id"] for one in page["comparisons"]] == [other, ids[2]]
        assert [one["id"] for one in client.get(page["next"]).json()["comparisons"]] == [ids[1], ids[0]]
        for path in (f"{PATH}?golden={GOLDEN}", f"/v1/images/{GOLDEN}/comparisons"):
            listed = client.get(path).json()
            assert ([one["id"] for one in listed["comparisons"]], listed["next"]) == (ids[::-1], None)

    def test_is_for_callers_with_a_key(self, anyone: TestClient, store: Database) -> None:
        build_id = compared(store)
        for path in (PATH, f"{PATH}/{build_id}", f"{PATH}/{build_id}/report", f"/v1/images/{GOLDEN}/comparisons"):
            problem(anyone.get(path), 401, "not-authenticated")


class TestReport:
    def test_is_json_named_by_its_digest(self, client: TestClient, store: Database) -> None:
        build_id = compared(store)
        answer = client.get(f"{PATH}/{build_id}/report")
        assert answer.headers["content-type"] == "application/json"
        assert Report.model_validate_json(answer.content) == report()
        named = client.get(f"{PATH}/{build_id}").json()["outcome"]["reportDigest"]
        assert answer.headers["etag"].removeprefix("W/") == f'"{named}"'

    @pytest.mark.parametrize("by", ["query", "accept"])
    @pytest.mark.parametrize(
        ("form", "media_type", "beginning"),
        [("sarif", "application/sarif+json", "{"), ("markdown", "text/markdown", "# host-7"),
         ("html", "text/html", "<!doctype html>")],
    )  # fmt: skip
    def test_is_given_in_other_forms(
        self, client: TestClient, store: Database, by: str, form: str, media_type: str, beginning: str
    ) -> None:
        path = f"{PATH}/{compared(store)}/report"
        if by == "query":
            answer = client.get(path, params={"format": form})
        else:
            answer = client.get(path, headers={"Accept": media_type})
        assert answer.headers["content-type"].split(";")[0] == media_type
        assert "Accept" in answer.headers["vary"].split(", ")
        assert answer.text.startswith(beginning)
        assert form != "html" or "<script>" not in answer.text
        assert answer.headers["etag"] != client.get(path).headers["etag"]
        if form == "sarif":
            assert json.loads(answer.text)["version"] == "2.1.0"

    def test_as_a_page_has_the_pages_own_policy(self, client: TestClient, store: Database) -> None:
        answer = client.get(f"{PATH}/{compared(store)}/report?format=html")
        assert answer.headers["content-security-policy"] == page_policy()
        assert "default-src 'none'" in page_policy()
        assert answer.headers["x-content-type-options"] == "nosniff"

    def test_in_a_form_that_there_is_not_is_refused(self, client: TestClient, store: Database) -> None:
        problem(client.get(f"{PATH}/{compared(store)}/report?format=pdf"), 422, "request-invalid")

    @pytest.mark.parametrize(
        ("accept", "form"),
        [
            ("*/*", Form.JSON),
            ("", Form.JSON),
            ("image/png", Form.JSON),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form.HTML),
            ("text/markdown;q=0.5, application/sarif+json", Form.SARIF),
            ("text/html;q=0, application/json;q=0.1", Form.JSON),
            ("TEXT/MARKDOWN", Form.MARKDOWN),
            ("text/html;q=x", Form.JSON),
        ],
    )
    def test_form_is_the_one_that_is_liked_best(self, accept: str, form: Form) -> None:
        assert wanted_form(accept) is form
