"""The readable verdict: what failed and what would make it pass, in every form, and nothing of the image as markup."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from builder.cli.main import main
from builder.pipeline.evidence import kept
from builder.policy.verdict import Excepted, Offender, PolicyIdentity, RuleResult, Verdict
from builder.scanning.findings import Severity
from builder.store import builds, keys
from builder.store.database import Database
from builder.store.schema import Release
from tests.unit.api import problem, submit
from tests.unit.evidence import build_evidence, digest, release_evidence, scan_evidence

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

HOSTILE = "<script>alert(1)</script>[x](javascript:1)|`"
NOW = datetime.now(UTC)


def rules(*, passed: bool) -> tuple[RuleResult, ...]:
    offender = Offender(
        id="CVE-2023-4911", severity=Severity.HIGH, subject=f"libc6 {HOSTILE}", remedy="upgrade libc6 to 2.36-9+deb12u3"
    )
    return (
        RuleResult(rule="secrets", field=None, passed=True, explanation="No secrets were found.", title="No secrets"),
        RuleResult(
            rule="vulnerabilities", field="spec.policy.maximumSeverity", passed=passed,
            explanation="1 vulnerability is worse than the policy allows.", offenders=() if passed else (offender,),
            title="No known vulnerability is worse", remedy=None if passed else "upgrade what has a fix",
            documentation="policy/rules/vulnerabilities.md",
        ),
    )  # fmt: skip


def judged(store: Database, *, passed: bool, released: bool = False) -> str:
    """A build whose image was judged."""
    excepted = [
        Excepted(vulnerability=f"CVE-2026-{days}", package="zlib1g", exception="0" * 26, owner=f"owner{days}",
                 reason="accepted", expires=NOW + timedelta(days=days))
        for days in (-1, 3, 90)
    ]  # fmt: skip
    verdict = Verdict(
        passed=passed, reference="registry.example:5000/staging/golden/web@" + digest("a"), rules=rules(passed=passed),
        sample_database=True, database_digest=digest("8"), excepted=tuple(excepted),
        policy=PolicyIdentity(name="house", version="7", digest=digest("e")), facts_digest=digest("f"),
    )  # fmt: skip
    evidence = {"build": kept(build_evidence()), "scan": kept(scan_evidence().model_copy(update={"verdict": verdict}))}
    if released:
        told = release_evidence().model_copy(update={"attestations": {"https://slsa.dev/provenance/v1": digest("d")}})
        evidence["release"] = kept(told)
    build_id = submit(store)
    with store.write() as session:
        builds.get(session, build_id).evidence = evidence
        if released:
            session.add(
                Release(
                    build_id=build_id, digest=digest("a"), recipe_name="web", recipe_digest=digest("1"),
                    registry_host="registry.example:5000", repository="golden/web", tags=["1"], released_at=time.time(),
                )
            )  # fmt: skip
    return build_id


def told(client: TestClient, build_id: str, **headers: str) -> Any:
    answer = client.get(f"/v1/builds/{build_id}/verdict", headers=headers)
    assert answer.status_code == 200
    return answer


def test_a_failed_rule_says_why_and_what_would_make_it_pass(client: TestClient, store: Database) -> None:
    found = told(client, judged(store, passed=False)).json()
    assert found["passed"] is False
    assert [rule["rule"] for rule in found["rules"]] == ["vulnerabilities", "secrets"]
    failed = found["rules"][0]
    assert failed["remedy"] == "upgrade what has a fix"
    assert failed["field"] == "spec.policy.maximumSeverity"
    assert failed["offenders"][0]["remedy"] == "upgrade libc6 to 2.36-9+deb12u3"
    assert found["policy"] == {"name": "house", "version": "7", "digest": digest("e")}
    assert found["database"]["sample"] is True


def test_an_exception_that_has_expired_since_shouts(client: TestClient, store: Database) -> None:
    build_id = judged(store, passed=True)
    found = told(client, build_id).json()
    standings = {one["owner"]: one["standing"] for one in found["excepted"]}
    assert standings == {"owner-1": "EXPIRED", "owner3": "ends soon", "owner90": "holds"}
    assert "**EXPIRED**" in told(client, build_id, Accept="text/markdown").text
    assert "1 EXPIRED since" in told(client, build_id, Accept="text/html").text


def test_the_form_is_what_the_caller_would_rather_have(client: TestClient, store: Database) -> None:
    build_id = judged(store, passed=False)
    kinds = {
        "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8": "text/html",
        "text/markdown": "text/markdown",
        "*/*": "application/json",
        "application/sarif+json": "application/json",
    }
    for accept, kind in kinds.items():
        assert told(client, build_id, Accept=accept).headers["content-type"].startswith(kind)
    path = f"/v1/builds/{build_id}/verdict"
    assert client.get(path, params={"format": "html"}).headers["content-type"].startswith("text/html")
    problem(client.get(path, params={"format": "sarif"}), 422, "request-invalid")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("href", "src")]


def test_nothing_of_the_image_becomes_markup(client: TestClient, store: Database) -> None:
    build_id = judged(store, passed=False)
    page = told(client, build_id, Accept="text/html")
    tags = Tags()
    tags.feed(page.text)
    assert "script" not in tags.seen
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    markdown = told(client, build_id, Accept="text/markdown").text
    assert "<script" not in markdown
    assert "[x](" not in markdown


def test_a_build_that_was_not_judged_has_none(client: TestClient, store: Database) -> None:
    problem(client.get(f"/v1/builds/{submit(store)}/verdict"), 409, "verdict-unavailable")
    problem(client.get(f"/v1/builds/{'0' * 26}/verdict"), 404, "build-unknown")


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    """The API on a port of this machine."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def goldsmith(url: str, store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with store.write() as session:
        key = keys.create_key(session, "ci")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main([*arguments, "--url", url, "--key", key])


class TestCommand:
    def test_it_tells_what_failed_and_ends_with_two(
        self, goldsmith: Any, store: Database, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert goldsmith("verdict", judged(store, passed=False)) == 2
        out = capsys.readouterr().out
        assert out.index("FAILED  No known vulnerability") < out.index("passed  No secrets")
        assert "to pass: upgrade what has a fix" in out
        assert out.rstrip().endswith("web: stopped at the gate: 1 rule failed")

    def test_an_image_is_found_by_its_digest(
        self, goldsmith: Any, store: Database, capsys: pytest.CaptureFixture[str]
    ) -> None:
        build_id = judged(store, passed=True, released=True)
        for name in (digest("a"), "registry.example:5000/golden/web@" + digest("a")):
            assert goldsmith("verdict", name, "--json") == 0
            found = json.loads(capsys.readouterr().out)
            assert (found["build"], found["passed"]) == (build_id, True)
            assert found["attestations"] == {"https://slsa.dev/provenance/v1": digest("d")}

    def test_a_page_is_written_to_a_file(self, goldsmith: Any, store: Database, tmp_path: Path) -> None:
        assert goldsmith("verdict", judged(store, passed=True), "--format", "html", "-o", str(tmp_path / "v.html")) == 0
        assert (tmp_path / "v.html").read_text().startswith("<!doctype html>")

    def test_exceptions_are_made_listed_and_revoked(
        self, goldsmith: Any, app: FastAPI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        services = app.state.services
        services.settings = services.settings.model_copy(update={"exception_approvers": ("ci",)})
        terms = ("--owner", "sec", "--reason", "not reachable", "--expires", "30")
        assert goldsmith("exceptions", "add", "CVE-2023-4911", "--package", "libc6", *terms, "--json") == 0
        (made,) = json.loads(capsys.readouterr().out)["exceptions"]
        assert made["state"] == "pending"
        vex = {
            "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://supplier.example/1", "author": "Supplier",
            "timestamp": "2026-11-01T00:00:00Z", "version": 1,
            "statements": [
                {"vulnerability": {"name": "CVE-2026-1"}, "products": [{"@id": "pkg:deb/debian/tar"}],
                 "status": "fixed"},
                {"vulnerability": {"name": "CVE-2026-2"}, "status": "under_investigation"},
            ],
        }  # fmt: skip
        (tmp_path / "vex.json").write_text(json.dumps(vex))
        assert goldsmith("exceptions", "import", str(tmp_path / "vex.json"), *terms) == 0
        told_on = capsys.readouterr()
        assert "package pkg:deb/debian/tar" in told_on.out
        assert "left out: CVE-2026-2" in told_on.err
        assert goldsmith("exceptions", "revoke", made["id"]) == 0
        capsys.readouterr()
        assert goldsmith("exceptions", "list", "--json") == 0
        found = json.loads(capsys.readouterr().out)["exceptions"]
        states = {one["vulnerability"]: one["state"] for one in found}
        assert states == {"CVE-2023-4911": "revoked", "CVE-2026-1": "pending"}

    def test_one_cannot_be_made_without_an_owner_a_reason_and_an_expiry(self, goldsmith: Any) -> None:
        assert goldsmith("exceptions", "add", "CVE-2023-4911", "--package", "libc6", "--owner", "sec") == 64
        whole = ("--owner", "sec", "--reason", "x", "--expires", "someday")
        assert goldsmith("exceptions", "add", "CVE-2023-4911", "--package", "libc6", *whole) == 64
