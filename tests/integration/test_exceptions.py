"""An exception counts when our own signer signed exactly it, and only then: not before, not altered, not another's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import update

from builder.image.digests import digest_of
from builder.pipeline.errands import run_errand
from builder.pipeline.excepting import (
    ExceptionInvalid,
    ExceptionNotAllowed,
    Terms,
    active_exceptions,
    refuse_document,
    sign_document,
    submit_exception,
    submit_import,
)
from builder.pipeline.services import Services
from builder.policy.exceptions import PolicyException, Source
from builder.policy.exceptions_openvex import VexInvalid
from builder.settings import Settings
from builder.signing.statement import OPENVEX, Statement, Subject
from builder.store import errands, exceptions
from builder.store.errands import ErrandKind
from builder.store.schema import Errand, VexDocument
from tests.integration.sandbox_server import Sandbox

pytest_plugins = ["tests.unit.databases"]

SOON = datetime.now(UTC) + timedelta(days=30)
TOLD: dict[str, Any] = {
    "vulnerability": "CVE-2023-4911", "package": "libc6", "recipe": "web", "owner": "security@example.org",
    "reason": "no set-uid program of ours reads it", "expires": SOON,
}  # fmt: skip
VEX: dict[str, Any] = {
    "@context": "https://openvex.dev/ns/v0.2.0",
    "@id": "https://supplier.example/vex/7",
    "author": "Supplier",
    "timestamp": "2026-11-01T12:00:00Z",
    "version": 1,
    "statements": [
        {"vulnerability": {"name": "CVE-2026-1", "aliases": ["GHSA-aaaa-bbbb-cccc"]},
         "products": [{"@id": "pkg:deb/debian/zlib1g"}],
         "status": "not_affected", "justification": "vulnerable_code_not_present"},
        {"vulnerability": {"name": "CVE-2026-2"}, "products": [{"identifiers": {"purl": "pkg:pypi/jinja2@3.1.2"}}],
         "status": "fixed"},
        {"vulnerability": {"name": "CVE-2026-3"}, "products": [{"@id": "pkg:deb/debian/tar"}],
         "status": "affected", "action_statement": "wait"},
        {"vulnerability": {"name": "CVE-2026-4"}, "products": [{"@id": "pkg:deb/debian/tar"}],
         "status": "under_investigation"},
        {"vulnerability": {"name": "CVE-2026-5"}, "products": [{"@id": "https://supplier.example/product"}],
         "status": "not_affected", "impact_statement": "the product does not call it"},
        {"vulnerability": {"name": "CVE-2026-6"}, "status": "not_affected", "impact_statement": "no",
         "products": [{"@id": "pkg:deb/debian/tar", "subcomponents": [{"@id": "pkg:deb/debian/libc6"}]}]},
    ],
}  # fmt: skip


@pytest.fixture
def services(sandbox: Sandbox, tmp_path: Path, migrated_file: Path) -> Services:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    return Services(
        Settings(
            database_url=f"sqlite:///{tmp_path / 'goldsmith.db'}",
            state_directory=tmp_path,
            exception_approvers=("security",),
            sigstore_trust_config=sandbox.client_trust_config,
            signer_identity=sandbox.identity,
            signer_issuer=sandbox.issuer,
            identity_token_url=f"{sandbox.url}/oidc/token",
            identity_client_id=sandbox.credentials().client_id,
            identity_client_secret_file=sandbox.credentials().secret_file,
        )
    )


def ask(services: Services, **changes: Any) -> PolicyException:
    return submit_exception(services, TOLD | changes, requester="security")


def do_errands(services: Services) -> None:
    """As the release worker does, message by message."""
    with services.database.read() as session:
        numbers = [one.id for one in errands.due(session)]
    for number in numbers:
        assert run_errand(
            services.database,
            ErrandKind.SIGN,
            number,
            lambda taken: sign_document(services, taken.subject),
            lease_seconds=60,
            give_up=lambda taken, error: refuse_document(services, taken.subject, error),
        )


def counting(services: Services, vulnerability: str = "CVE-2023-4911") -> list[PolicyException]:
    return list(active_exceptions(services, [vulnerability]).exceptions)


def document_of(services: Services, one: PolicyException) -> VexDocument:
    with services.database.read() as session:
        return exceptions.get(session, one.id)[1]


def tamper(services: Services, **values: object) -> None:
    with services.database.write() as session:
        session.execute(update(VexDocument).values(**values))


class TestSigned:
    def test_it_counts_once_it_is_signed_and_not_before(self, services: Services) -> None:
        one = ask(services)
        assert counting(services) == []
        do_errands(services)
        assert counting(services) == [one]
        assert counting(services, "CVE-2023-4912") == []

    def test_a_message_that_comes_twice_signs_once(self, services: Services) -> None:
        one = ask(services)
        do_errands(services)
        before = document_of(services, one).bundle_digest
        with services.database.write() as session:
            session.execute(update(Errand).values(done_at=None, due_at=0))
        do_errands(services)
        assert document_of(services, one).bundle_digest == before

    def test_who_may_not_make_any_makes_none(self, services: Services) -> None:
        with pytest.raises(ExceptionNotAllowed, match="ci may not"):
            submit_exception(services, TOLD, requester="ci")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"expires": datetime.now(UTC) - timedelta(seconds=1)},
            {"expires": datetime.now(UTC) + timedelta(days=181)},
            {"package": None, "recipe": None},
            {"owner": ""},
            {"reason": " "},
            {"vulnerability": "every one"},
        ],
    )
    def test_one_that_says_too_little_or_lasts_too_long_is_not_taken_in(
        self, services: Services, wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(ExceptionInvalid) as refused:
            ask(services, **wrong)
        assert refused.value.errors
        with services.database.read() as session:
            assert errands.due(session) == []

    def test_a_revoked_one_counts_no_more(self, services: Services) -> None:
        one, other = ask(services), ask(services)
        do_errands(services)
        with services.database.write() as session:
            exceptions.revoke(session, one.id, "security")
        assert counting(services) == [other]

    def test_a_signer_that_refuses_leaves_the_reason_and_no_exception(self, services: Services, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong-secret"
        wrong.touch(0o600)
        wrong.write_text("not it")
        settings = services.settings.model_copy(update={"identity_client_secret_file": wrong})
        one = ask(services)
        do_errands(Services(settings))
        found = document_of(services, one)
        assert found.state == "refused"
        assert found.problem is not None
        assert found.problem["type"] == "/problems/identity-refused"
        assert counting(services) == []


class TestTamperedWith:
    @pytest.fixture
    def one(self, services: Services) -> PolicyException:
        found = ask(services)
        do_errands(services)
        return found

    @pytest.mark.parametrize(
        "change",
        [
            {"expires": (SOON + timedelta(days=999)).isoformat()},
            {"owner": "somebody.else@example.org"},
            {"reason": "because"},
            {"recipe": None},
            {"package": "openssl"},
            {"digest": "sha256:" + "0" * 64},
        ],
    )
    def test_no_part_of_it_can_be_changed_in_the_database(
        self, services: Services, one: PolicyException, change: dict[str, Any]
    ) -> None:
        listed = json.loads(document_of(services, one).scope)
        tamper(services, scope=json.dumps([listed[0] | change]))
        believed = active_exceptions(services, [one.vulnerability])
        assert believed.exceptions == ()
        assert len(believed.disbelieved) == 1

    def test_one_that_was_never_signed_cannot_be_said_to_be(self, services: Services) -> None:
        ask(services)
        tamper(services, state="signed")
        assert counting(services) == []

    def test_a_signature_of_another_identity_counts_for_nothing(
        self, services: Services, sandbox: Sandbox, one: PolicyException
    ) -> None:
        found = document_of(services, one)
        subject = Subject.of("urn:goldsmith:exceptions:x", digest_of(found.scope.encode()))
        with services.database.read() as session:
            document = json.loads(exceptions.content(session, found.document_digest))
        statement = Statement(subject=(subject,), predicateType=OPENVEX, predicate=document)
        forged = sandbox.rebuilder().sign(statement).bundle
        with services.database.write() as session:
            exceptions.mark_signed(session, found.id, forged)
        assert counting(services) == []

    def test_nobody_is_believed_while_nobody_said_whom(self, services: Services, one: PolicyException) -> None:
        settings = services.settings.model_copy(update={"signer_identity": None, "signer_issuer": None})
        believed = active_exceptions(Services(settings), [one.vulnerability])
        assert believed.exceptions == ()
        assert "GOLDSMITH_SIGNER_IDENTITY" in believed.disbelieved[0]


class TestImported:
    def take(self, services: Services, document: dict[str, Any] = VEX, **scope: str) -> Any:
        terms = Terms(owner="security@example.org", reason="we trust the supplier", expires=SOON)
        return submit_import(services, json.dumps(document).encode(), terms, scope, requester="security")

    def test_only_what_excuses_a_package_by_its_package_url_counts(self, services: Services) -> None:
        made = self.take(services)
        do_errands(services)
        told = [(one.vulnerability, one.package) for one in made.exceptions]
        assert told == [
            ("CVE-2026-1", "pkg:deb/debian/zlib1g"),
            ("GHSA-aaaa-bbbb-cccc", "pkg:deb/debian/zlib1g"),
            ("CVE-2026-2", "pkg:pypi/jinja2@3.1.2"),
        ]
        assert [line.partition(":")[0] for line in made.left_out] == [f"CVE-2026-{number}" for number in (3, 4, 5, 6)]
        (one,) = counting(services, "CVE-2026-2")
        assert (one.source, one.owner, one.expires) == (Source.SUPPLIER, "security@example.org", SOON)
        assert "Supplier" in one.reason
        assert counting(services, "CVE-2026-3") == counting(services, "CVE-2026-6") == []

    def test_one_document_takes_one_signature(self, services: Services) -> None:
        self.take(services)
        with services.database.read() as session:
            assert len(errands.due(session)) == 1

    def test_it_can_be_narrowed_to_a_recipe(self, services: Services) -> None:
        assert {one.recipe for one in self.take(services, recipe="web").exceptions} == {"web"}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"@context": "https://openvex.dev/ns/v9"},
            {"statements": []},
            {"statements": [{"vulnerability": {"name": "CVE-1-1"}, "status": "not_affected"}]},
            {"statements": [{"vulnerability": {"name": "CVE-1-1"}, "status": "harmless"}]},
            {"author": ""},
            {"extra": 1},
        ],
    )
    def test_what_is_no_openvex_is_refused(self, services: Services, wrong: dict[str, Any]) -> None:
        with pytest.raises(VexInvalid):
            self.take(services, VEX | wrong)

    def test_a_document_that_excuses_nothing_is_refused_with_the_reasons(self, services: Services) -> None:
        with pytest.raises(ExceptionInvalid, match="excuses nothing"):
            self.take(services, VEX | {"statements": VEX["statements"][2:4]})


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OpenVex(Strict):
    """The OpenVEX v0.2.0 schema, as far as our own documents go: closed everywhere, as that is."""

    class Statement(Strict):
        class Vulnerability(Strict):
            name: str

        class Product(Strict):
            class Part(Strict):
                id: str = Field(alias="@id", pattern="^(pkg|urn):")
                identifiers: dict[Literal["purl"], str] | None = None

            id: str = Field(alias="@id", pattern="^(pkg|urn):")
            identifiers: dict[Literal["purl"], str] | None = None
            hashes: dict[Literal["sha-256"], str] | None = None
            subcomponents: list[Part] = []

        vulnerability: Vulnerability
        products: list[Product] = Field(min_length=1)
        status: Literal["not_affected", "affected", "fixed"]
        status_notes: str
        justification: str | None = None
        impact_statement: str | None = None
        action_statement: str | None = None

    context: Literal["https://openvex.dev/ns/v0.2.0"] = Field(alias="@context")
    id: str = Field(alias="@id", pattern="^urn:")
    author: str
    timestamp: AwareDatetime
    version: int
    tooling: str
    statements: list[Statement] = Field(min_length=1, max_length=1)


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, lambda s: s.action_statement and not s.justification and not s.impact_statement),
        ({"status": "not_affected"}, lambda s: s.impact_statement and not s.justification),
        (
            {"status": "not_affected", "justification": "component_not_present"},
            lambda s: s.justification and not s.impact_statement,
        ),
        ({"status": "fixed"}, lambda s: not s.action_statement),
        ({"digest": "sha256:" + "5c" * 32}, lambda s: s.products[0].hashes == {"sha-256": "5c" * 32}),
        ({"recipe": None, "package": "pkg:deb/debian/libc6"}, lambda s: s.products[0].id == "pkg:deb/debian/libc6"),
        ({"package": None}, lambda s: s.products[0].subcomponents == []),
    ],
)
def test_our_documents_are_openvex(
    services: Services, sandbox: Sandbox, changes: dict[str, Any], holds: Callable[[OpenVex.Statement], bool]
) -> None:
    one = ask(services, **changes)
    do_errands(services)
    found = document_of(services, one)
    assert found.bundle_digest is not None
    with services.database.read() as session:
        bundle = exceptions.content(session, found.bundle_digest)
    signed = sandbox.verify(bundle, digest=digest_of(found.scope.encode()), predicate_type=OPENVEX)
    read = OpenVex.model_validate_json(json.dumps(signed.statement.predicate))
    assert holds(read.statements[0])
    assert read.author == "security@example.org"
