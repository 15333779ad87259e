"""Released images are scanned again from what was kept, with the real Trivy: what is new is told and marked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from builder.addresses import is_public
from builder.api.app import create_app
from builder.cli.main import main
from builder.errors import SettingsInvalid
from builder.pipeline.errands import run_errand
from builder.pipeline.evidence import kept
from builder.pipeline.excepting import sign_document, submit_exception
from builder.pipeline.notifying import WebhookRefused, WebhookUnavailable, deliver
from builder.pipeline.rescan import rescan_all
from builder.pipeline.services import Services
from builder.recipes.reading import canonical_json, read_recipe
from builder.scanning.binary import Trivy
from builder.scanning.database import ensure
from builder.scanning.errors import DatabaseMissing
from builder.scanning.findings import ScanResult
from builder.scanning.sources import DirectorySource
from builder.settings import Settings
from builder.store import attachments, builds, errands, exceptions, findings, keys, webhooks
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.errands import ErrandKind, Taken
from builder.store.findings import Wanted
from builder.store.schema import Blob, ExceptionRow, Finding, Release, VexDocument
from builder.store.webhooks import Event
from tests.integration import planted_database
from tests.integration.planted_database import offer, planted
from tests.integration.sandbox_server import Sandbox
from tests.integration.scanning_server import DAY, TRIVY, Image, registry, scanner
from tests.unit.api import RECIPE
from tests.unit.evidence import build_evidence, digest, scan_evidence
from workers.dispatcher import configure_webhook

pytest_plugins = ["tests.unit.databases"]

HOST = "registry.invalid:5000"
LATER = "CVE-2023-38545"  # critical, in both binaries of curl: the release's scan did not know it yet
IN_BOTH = {"curl", "libcurl4"}
POLICY = """\
apiVersion: goldsmith/v1
kind: Policy
metadata: {name: acme, version: '1'}
spec: {rules: {vulnerabilities: {maximumSeverity: LIMIT}, secrets: {}}}
"""
IMAGE = Image(
    packages=(
        ("curl", "curl", "7.88.1-10"),
        ("libcurl4", "curl", "7.88.1-10"),
        ("tar", "tar", "1.34+dfsg-1.2"),  # one of low severity, known and allowed
        ("hello", "hello", "2.10-3"),
    )
)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> ScanResult:
    """A real scan of an image in a registry, which is gone when it is scanned again."""
    directory = tmp_path_factory.mktemp("trivy")
    offer(directory / "offer", planted())
    source = DirectorySource(directory / "offer")
    ensure(Trivy(TRIVY), source, directory / "cache", maximum_age=2 * DAY, timeout=30)
    with registry(tmp_path_factory.mktemp("registry")) as server:
        return scanner(directory / "cache").scan(server.push("golden/web", IMAGE))


@pytest.fixture
def services(sandbox: Sandbox, tmp_path: Path, migrated_file: Path) -> Services:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    offer(tmp_path / "offer", planted())
    return Services(
        Settings(
            database_url=f"sqlite:///{tmp_path / 'goldsmith.db'}",
            state_directory=tmp_path / "state",
            registry=HOST,
            trivy_database=str(tmp_path / "offer"),
            exception_approvers=("security",),
            sigstore_trust_config=sandbox.client_trust_config,
            signer_identity=sandbox.identity,
            signer_issuer=sandbox.issuer,
            identity_token_url=f"{sandbox.url}/oidc/token",
            identity_client_id=sandbox.credentials().client_id,
            identity_client_secret_file=sandbox.credentials().secret_file,
        )
    )


def another_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One advisory more, for a package that no image has."""
    monkeypatch.setitem(planted_database.DEBIAN, "unrelated", {"CVE-2023-38545": {"FixedVersion": "9"}})
    offer(tmp_path / "offer", planted(), timedelta(minutes=1))


def release(
    services: Services, scanned: ScanResult, image: str = digest("a"), recipe: str = "web", limit: str = "medium"
) -> None:
    """As it stands after a release whose scan had not found LATER."""
    text = RECIPE.replace("NAME", recipe) + f"  policy: {{maximumSeverity: {limit}}}\n"
    known = tuple(one for one in scanned.findings.vulnerabilities if one.id != LATER)
    then = scan_evidence(f"{HOST}/golden/{recipe}@{image}")
    then = then.model_copy(update={"findings": scanned.findings.model_copy(update={"vulnerabilities": known})})
    with services.database.write() as session:
        asked = Submission(recipe, digest("1"), canonical_json(read_recipe(text)).decode(), "catalogue", "ci")
        build = builds.submit(session, asked)
        build.evidence = {"build": kept(build_evidence(image)), "scan": kept(then)}
        attachments.attach(session, build.id, Kind.CYCLONEDX, "application/vnd.cyclonedx+json", scanned.cyclonedx)
        session.add(
            Release(
                build_id=build.id, digest=image, recipe_name=recipe, recipe_digest=digest("1"), registry_host=HOST,
                repository=f"golden/{recipe}", tags=["1"], released_at=time.time() - 86400,
            )
        )  # fmt: skip


def listed(services: Services, **wanted: Any) -> list[Finding]:
    with services.database.read() as session:
        return findings.page(session, Wanted(**wanted), before=None, limit=1000)


class TestRound:
    def test_what_was_not_known_at_the_release_is_new_and_above_the_policy(
        self, services: Services, scanned: ScanResult
    ) -> None:
        release(services, scanned)
        done = rescan_all(services)
        assert (done.scanned, done.failed) == (1, 0)
        new = listed(services, new=True)
        assert {(one.vulnerability, one.package) for one in new} == {(LATER, package) for package in IN_BOTH}
        assert all(one.above_policy for one in new)
        assert {one.vulnerability for one in listed(services)} == {one.id for one in scanned.findings.vulnerabilities}

    def test_it_finds_what_the_scan_of_the_image_found(self, services: Services, scanned: ScanResult) -> None:
        release(services, scanned)
        rescan_all(services)
        told = {(one.vulnerability, one.package, one.installed, one.severity) for one in listed(services)}
        assert told == {(v.id, v.package, v.installed, str(v.severity)) for v in scanned.findings.vulnerabilities}

    def test_a_recipe_uses_the_leeway_that_the_policy_gives(self, services: Services, scanned: ScanResult) -> None:
        release(services, scanned, limit="critical")
        rescan_all(services)
        assert [one.above_policy for one in listed(services, new=True)] == [False, False]

    def test_a_policy_that_has_become_stricter_since_holds_and_one_that_has_become_laxer_too(
        self, services: Services, scanned: ScanResult, tmp_path: Path
    ) -> None:
        release(services, scanned, limit="critical")
        assert rescan_all(services).risen == 0
        under = tmp_path / "policy.yaml"
        stricter = Services(services.settings.model_copy(update={"policy": under}))
        under.write_text(POLICY.replace("LIMIT", "high"))
        done = rescan_all(stricter)
        assert (done.scanned, done.risen) == (1, 2), "the database is the same, the policy is not"
        assert all(one.above_policy for one in listed(services, new=True))
        assert rescan_all(stricter).scanned == 0
        under.write_text(POLICY.replace("LIMIT", "critical"))
        assert rescan_all(stricter).risen == 0
        assert not any(one.above_policy for one in listed(services, new=True))

    def test_a_recipe_tightens_the_policy_of_today(
        self, services: Services, scanned: ScanResult, tmp_path: Path
    ) -> None:
        release(services, scanned, limit="high")
        (tmp_path / "policy.yaml").write_text(POLICY.replace("LIMIT", "critical"))
        lax = Services(services.settings.model_copy(update={"policy": tmp_path / "policy.yaml"}))
        assert rescan_all(lax).risen == 2

    def test_with_a_policy_that_has_a_typo_nothing_is_said(
        self, services: Services, scanned: ScanResult, tmp_path: Path
    ) -> None:
        release(services, scanned)
        (tmp_path / "policy.yaml").write_text(POLICY.replace("LIMIT", "hihg"))
        with pytest.raises(SettingsInvalid, match="maximumSeverity"):
            rescan_all(Services(services.settings.model_copy(update={"policy": tmp_path / "policy.yaml"})))
        assert listed(services) == []

    def test_nothing_is_scanned_twice_with_the_same_database(
        self, services: Services, scanned: ScanResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release(services, scanned)
        first = rescan_all(services)
        again = rescan_all(services)
        assert (first.scanned, again.scanned, again.unchanged) == (1, 0, 1)
        seen = {one.id: one.last_seen for one in listed(services)}
        another_database(tmp_path, monkeypatch)
        assert rescan_all(services).scanned == 1
        after = listed(services)
        assert {one.id for one in after} == set(seen)
        assert all(one.last_seen > seen[one.id] for one in after)
        assert len({one.database_digest for one in after}) == 1

    def test_what_is_found_no_more_is_gone_and_rises_when_it_comes_back(
        self, services: Services, scanned: ScanResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release(services, scanned)
        rescan_all(services)
        with services.database.write() as session:
            session.add(
                Finding(
                    image_digest=digest("a"), recipe_name="web", vulnerability="CVE-1999-0001", package="hello",
                    installed="2.10-3", severity="HIGH", first_seen=1.0, last_seen=1.0, database_digest=digest("8"),
                    above_policy=True, since_release=True,
                )
            )  # fmt: skip
            session.execute(update(Finding).where(Finding.package == "curl").values(gone_at=5.0, above_policy=False))
        another_database(tmp_path, monkeypatch)
        assert rescan_all(services).risen == 1
        (gone,) = listed(services, vulnerability="CVE-1999-0001")
        assert gone.gone_at is not None
        assert not gone.above_policy
        assert gone not in listed(services, new=True)

    def test_only_the_newest_release_of_an_image_speaks_for_it(self, services: Services, scanned: ScanResult) -> None:
        release(services, scanned)
        release(services, scanned)
        assert rescan_all(services).scanned == 1

    def test_one_that_cannot_be_scanned_keeps_none_from_it_and_says_why(
        self, services: Services, scanned: ScanResult
    ) -> None:
        release(services, scanned)
        release(services, scanned, image=digest("b"), recipe="python")
        with services.database.write() as session:
            one = attachments.of_image(session, digest("b"), Kind.CYCLONEDX)
            assert one is not None
            one.blob_digest = attachments.put_blob(session, b'{"bomFormat": "CycloneDX", "compon')
        done = rescan_all(services)
        assert (done.scanned, done.failed) == (1, 1)
        with services.database.read() as session:
            failed = findings.rescan_of(session, digest("b"))
            assert failed is not None
            assert failed.problem is not None
            assert failed.problem["type"] == "/problems/scan-report-invalid"
        assert rescan_all(services).failed == 1  # it is tried again, and not taken for clean

    def test_a_bill_of_materials_that_was_changed_is_not_scanned(self, services: Services, scanned: ScanResult) -> None:
        release(services, scanned)
        with services.database.write() as session:
            one = attachments.of_image(session, digest("a"), Kind.CYCLONEDX)
            assert one is not None
            session.execute(update(Blob).where(Blob.digest == one.blob_digest).values(content=b"{}"))
        assert rescan_all(services).failed == 1

    def test_without_a_database_nothing_is_said(self, services: Services, scanned: ScanResult, tmp_path: Path) -> None:
        release(services, scanned)
        shutil.rmtree(tmp_path / "offer")
        with pytest.raises(DatabaseMissing):
            rescan_all(services)
        assert listed(services) == []


class TestExceptions:
    def make(self, services: Services, **changes: Any) -> str:
        told = {
            "vulnerability": LATER, "recipe": "web", "owner": "security@example.org", "reason": "not reachable",
            "expires": datetime.now(UTC) + timedelta(days=30),
        }  # fmt: skip
        made = submit_exception(services, told | changes, requester="security")
        with services.database.read() as session:
            documents = list(session.scalars(select(VexDocument.id)))
        for document in documents:
            sign_document(services, document)
        return made.id

    def test_what_somebody_answers_for_is_not_above_the_policy(self, services: Services, scanned: ScanResult) -> None:
        release(services, scanned)
        made = self.make(services)
        assert rescan_all(services).risen == 0
        assert {(one.above_policy, one.exception) for one in listed(services, new=True)} == {(False, made)}

    @pytest.mark.parametrize(
        "elsewhere",
        [
            {"recipe": "python"},
            {"digest": digest("b")},
            {"vulnerability": "CVE-2023-38546"},
            {"package": "libc6"},
            {"package": "pkg:deb/debian/curl@7.88.1-11"},
        ],
    )
    def test_one_for_something_else_does_not_count(
        self, services: Services, scanned: ScanResult, elsewhere: dict[str, str]
    ) -> None:
        release(services, scanned)
        self.make(services, **elsewhere)
        rescan_all(services)
        assert all(one.above_policy for one in listed(services, new=True))

    def test_one_for_a_package_leaves_the_others_above(self, services: Services, scanned: ScanResult) -> None:
        release(services, scanned)
        self.make(services, package="pkg:deb/debian/libcurl4")
        rescan_all(services)
        assert {one.package: one.above_policy for one in listed(services, new=True)} == {
            "curl": True,
            "libcurl4": False,
        }

    def test_when_it_expires_the_finding_rises_though_the_database_is_the_same(
        self, services: Services, scanned: ScanResult
    ) -> None:
        release(services, scanned)
        made = self.make(services, expires=datetime.now(UTC) + timedelta(seconds=4))
        assert rescan_all(services).risen == 0
        time.sleep(4.1)
        done = rescan_all(services)
        assert (done.scanned, done.risen) == (1, 2)
        with services.database.read() as session:
            assert session.get_one(ExceptionRow, made).revoked_at is None

    def test_when_it_is_revoked_too(self, services: Services, scanned: ScanResult) -> None:
        release(services, scanned)
        made = self.make(services)
        rescan_all(services)
        with services.database.write() as session:
            exceptions.revoke(session, made, "security")
        assert rescan_all(services).risen == 2


class TestThroughTheApi:
    @pytest.fixture
    def client(self, services: Services) -> Iterator[TestClient]:
        with TestClient(create_app(services.settings)) as client:
            with services.database.write() as session:
                client.headers["Authorization"] = f"Bearer {keys.create_key(session, 'ci')}"
            yield client

    def test_the_image_is_marked_and_the_findings_are_listed(
        self, services: Services, scanned: ScanResult, client: TestClient
    ) -> None:
        release(services, scanned)
        assert client.get(f"/v1/images/{digest('a')}").json()["rescan"] is None
        rescan_all(services)
        mark = client.get(f"/v1/images/{digest('a')}").json()["rescan"]
        assert (mark["newAbovePolicy"], mark["problem"]) == (2, None)
        told = client.get("/v1/findings", params={"new": "true"}).json()["findings"]
        assert {(one["vulnerability"], one["package"]) for one in told} == {(LATER, package) for package in IN_BOTH}
        for wanted, number in (
            ({"recipe": "web", "new": "true"}, 2),
            ({"recipe": "python"}, 0),
            ({"digest": digest("b")}, 0),
            ({"severity": "CRITICAL", "new": "true"}, 2),
            ({"severity": "LOW", "new": "true"}, 0),
        ):
            assert len(client.get("/v1/findings", params=wanted).json()["findings"]) == number

    def test_pages_join_to_the_whole(self, services: Services, scanned: ScanResult, client: TestClient) -> None:
        release(services, scanned)
        rescan_all(services)
        found: list[int] = []
        following = "/v1/findings?limit=2"
        while following:
            page = client.get(following).json()
            found += [one["id"] for one in page["findings"]]
            following = page["next"]
        assert sorted(found, reverse=True) == found
        assert len(found) == len(listed(services))

    def test_whoever_asks_while_a_round_is_due_gets_that_one(self, services: Services, client: TestClient) -> None:
        assert client.get("/v1/rescans").json() is None
        first = client.post("/v1/rescans")
        assert first.status_code == 202
        assert client.post("/v1/rescans").json() == first.json()
        with services.database.read() as session:
            (one,) = errands.due(session)
        assert run_errand(
            services.database, ErrandKind.RESCAN, one.id, lambda _: rescan_all(services), lease_seconds=60
        )
        assert client.get("/v1/rescans").json()["state"] == "done"


class TestCommand:
    @pytest.fixture
    def goldsmith(self, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        server = uvicorn.Server(uvicorn.Config(create_app(services.settings), port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        with services.database.write() as session:
            key = keys.create_key(session, "ci")
        monkeypatch.chdir(tmp_path)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield lambda *arguments: main([*arguments, "--url", url, "--key", key])
        server.should_exit = True
        thread.join()

    def test_findings_are_listed_and_a_new_one_above_the_policy_ends_with_two(
        self, services: Services, scanned: ScanResult, goldsmith: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert goldsmith("findings") == 0
        assert "no such findings" in capsys.readouterr().out
        release(services, scanned)
        rescan_all(services)
        assert goldsmith("findings", "--new") == 2
        out = capsys.readouterr().out
        assert LATER in out
        assert "new, ABOVE POLICY" in out
        assert goldsmith("findings", "--severity", "low", "--json") == 0
        assert {one["package"] for one in json.loads(capsys.readouterr().out)["findings"]} == {"tar"}

    def test_a_round_is_asked_for_and_waited_for(
        self, services: Services, scanned: ScanResult, goldsmith: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        release(services, scanned)

        def work() -> None:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                with services.database.read() as session:
                    due = errands.due(session)
                if due:
                    run_errand(
                        services.database,
                        ErrandKind.RESCAN,
                        due[0].id,
                        lambda _: rescan_all(services),
                        lease_seconds=60,
                    )
                    return
                time.sleep(0.05)

        worker = threading.Thread(target=work)
        worker.start()
        assert goldsmith("rescan") == 0
        worker.join()
        assert "rescan: done" in capsys.readouterr().out
        assert listed(services, new=True)


@dataclass
class Webhook:
    """What a webhook was sent, and what it answers."""

    url: str
    answers: list[int] = field(default_factory=list)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    found = Webhook("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            found.taken.append(({name.lower(): value for name, value in self.headers.items()}, content))
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


KEY = secrets.token_bytes(32)


def told_to(services: Services, url: str, tmp_path: Path, *, private: bool = True) -> Services:
    file = tmp_path / "webhook-secret"
    file.touch(0o600)
    file.write_text("whsec_" + base64.b64encode(KEY).decode() + "\n")
    changed = {"webhook_url": url, "webhook_secret_file": file, "webhook_private": private}
    told = Services(services.settings.model_copy(update=changed))
    configure_webhook(told)
    return told


def notice(services: Services) -> Taken:
    """A message that is to be delivered to the webhook of the settings."""
    with services.database.write() as session:
        made = webhooks.send(session, webhooks.get(session, webhooks.CONFIGURED), Event.WEBHOOK_TEST, {})
        return Taken(1, str(made.id), None, 1)


def do_notices(services: Services) -> None:
    with services.database.write() as session:
        for row in errands.due(session):
            row.published_at = None
        numbers = [one.id for one in errands.due(session) if one.kind == ErrandKind.NOTIFY]
    for number in numbers:
        run_errand(
            services.database, ErrandKind.NOTIFY, number, lambda taken: deliver(services, taken), lease_seconds=60
        )


class TestWebhook:
    def test_it_is_told_once_for_each_image_signed_as_standard_webhooks_say(
        self, services: Services, scanned: ScanResult, webhook: Webhook, tmp_path: Path
    ) -> None:
        services = told_to(services, webhook.url, tmp_path)
        release(services, scanned)
        rescan_all(services)
        do_notices(services)
        do_notices(services)
        ((headers, content),) = webhook.taken
        # Standard Webhooks, "Signature scheme": HMAC-SHA256 over id.timestamp.payload, in base64, after "v1,".
        signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), content))
        expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        told = json.loads(content)
        assert told["type"] == "findings.risen"
        assert told["data"]["digest"] == digest("a")
        assert {(one["vulnerability"], one["package"]) for one in told["data"]["findings"]} == {
            (LATER, package) for package in IN_BOTH
        }
        with services.database.read() as session:
            assert errands.due(session) == []

    @pytest.mark.parametrize("answer", [500, 429, 404, 302])
    def test_what_it_does_not_take_is_sent_again_later_under_the_same_id(
        self, services: Services, scanned: ScanResult, webhook: Webhook, tmp_path: Path, answer: int
    ) -> None:
        services = told_to(services, webhook.url, tmp_path)
        release(services, scanned)
        rescan_all(services)
        webhook.answers.append(answer)
        do_notices(services)
        newest = self.newest(services)
        assert newest.done_at is None
        assert newest.due_at > time.time() + 5
        with services.database.write() as session:
            session.execute(update(type(newest)).values(due_at=0))
        do_notices(services)
        first, second = webhook.taken
        assert first[0]["webhook-id"] == second[0]["webhook-id"]
        assert first[1] == second[1]
        assert self.newest(services).done_at is not None

    def newest(self, services: Services) -> Any:
        with services.database.read() as session:
            found = errands.newest(session, ErrandKind.NOTIFY)
        assert found is not None
        return found

    def test_a_round_without_anything_new_tells_nobody(
        self, services: Services, scanned: ScanResult, webhook: Webhook, tmp_path: Path
    ) -> None:
        services = told_to(services, webhook.url, tmp_path)
        release(services, scanned, limit="critical")
        rescan_all(services)
        do_notices(services)
        assert webhook.taken == []

    def test_a_private_address_is_not_spoken_to_unless_the_operator_says_so(
        self, services: Services, webhook: Webhook, tmp_path: Path
    ) -> None:
        told = told_to(services, webhook.url, tmp_path, private=False)
        with pytest.raises(WebhookRefused, match="plain HTTP"):
            deliver(told, notice(told))
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.7", "169.254.169.254"):
            told = told_to(services, f"https://{host}/hook", tmp_path, private=False)
            with pytest.raises(WebhookRefused, match="no public address"):
                deliver(told, notice(told))
        assert webhook.taken == []

    def test_the_secret_is_in_no_message(self, services: Services, tmp_path: Path) -> None:
        services = told_to(services, "https://127.0.0.1:1/hook", tmp_path)
        with pytest.raises(WebhookUnavailable) as failed:
            deliver(services, notice(services))
        assert base64.b64encode(KEY).decode() not in str(failed.value)
        (tmp_path / "webhook-secret").write_text("whsec_c2hvcnQ=")
        with pytest.raises(SettingsInvalid) as refused:
            deliver(services, notice(services))
        assert "c2hvcnQ=" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("64:ff9b:1::a00:1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("192.88.99.1", False),
        ("192.0.0.8", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public
