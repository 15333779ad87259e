"""A dry run says what the gate said: the signed exceptions that count there count here, and no others."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from builder.pipeline.excepting import sign_document, submit_exception
from builder.pipeline.services import Services
from builder.pipeline.trying import Trial, try_policy
from builder.policy.effective import effective
from builder.policy.gate import evaluate
from builder.policy.policy import Policy
from builder.scanning.findings import Findings, Severity, Vulnerability
from builder.settings import Settings
from builder.store import exceptions
from builder.store.schema import VexDocument
from builder.verdicts.dry_run import DryRun
from tests.integration.sandbox_server import Sandbox
from tests.unit.judged import facts
from tests.unit.scanned import scanned

pytest_plugins = ["tests.unit.databases"]

FACTS = facts(
    gathered_at=datetime.now(UTC),
    findings=Findings(
        vulnerabilities=(
            Vulnerability(
                id="CVE-2026-0001", package="openssl", installed="3.5.1-1", fixed="3.5.1-2", severity=Severity.HIGH,
                status="fixed", target="app",
            ),
        )
    ),
)  # fmt: skip


@pytest.fixture
def settings(sandbox: Sandbox, tmp_path: Path, migrated_file: Path) -> Settings:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    return Settings(
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


@pytest.fixture
def services(settings: Settings) -> Services:
    return Services(settings)


def excepted(services: Services, *, recipe: str = "app", signed: bool = True) -> None:
    told = {
        "vulnerability": "CVE-2026-0001", "recipe": recipe, "owner": "security@example.org", "reason": "not reached",
        "expires": datetime.now(UTC) + timedelta(days=3),
    }  # fmt: skip
    made = submit_exception(services, told, requester="security")
    with services.database.read() as session:
        document = exceptions.get(session, made.id)[1].id
    if signed:
        sign_document(services, document)


def tried(services: Services) -> DryRun:
    return try_policy(services, Trial(build=scanned(services.database, FACTS)))


def test_an_exception_that_counts_in_the_gate_counts_here(services: Services) -> None:
    assert not tried(services).verdict.passed
    excepted(services)
    found = tried(services)
    assert found.verdict.passed
    assert found.exceptions.counted
    assert [one.owner for one in found.verdict.excepted] == ["security@example.org"]


@pytest.mark.parametrize(("recipe", "signed"), [("other", True), ("app", False)])
def test_one_for_something_else_or_not_signed_does_not(services: Services, recipe: str, signed: bool) -> None:
    excepted(services, recipe=recipe, signed=signed)
    assert not tried(services).verdict.passed


def test_one_that_was_changed_does_not_and_the_answer_says_why(services: Services) -> None:
    excepted(services, recipe="other")
    with services.database.write() as session:
        scope = exceptions.get(session, exceptions.page(session, before=None, limit=1, vulnerability=None)[0][0].id)[1]
        session.execute(update(VexDocument).values(scope=scope.scope.replace('"other"', '"app"')))
    found = tried(services)
    assert not found.verdict.passed
    assert len(found.exceptions.left_aside) == 1


def test_a_service_that_knows_no_signer_counts_none_and_says_so(services: Services, settings: Settings) -> None:
    excepted(services)
    found = tried(Services(settings.model_copy(update={"signer_identity": None})))
    assert not found.verdict.passed
    assert "GOLDSMITH_SIGNER_IDENTITY" in found.exceptions.left_aside[0]


def test_a_service_whose_trust_cannot_be_read_counts_none_and_says_so(
    services: Services, settings: Settings, tmp_path: Path
) -> None:
    excepted(services)
    found = tried(Services(settings.model_copy(update={"sigstore_trust_config": tmp_path / "nowhere.json"})))
    assert not found.exceptions.counted
    assert found.exceptions.left_aside == ("The Sigstore trust configuration cannot be used",)


def test_the_verdict_is_the_gates(services: Services) -> None:
    report = tried(services).verdict
    gate = evaluate(effective(services.policy, "app", Policy()), FACTS)
    assert report.policy is not None
    assert gate.policy is not None
    assert (report.passed, report.policy.digest) == (gate.passed, gate.policy.digest)
    assert {rule.rule: (rule.passed, rule.explanation) for rule in report.rules} == {
        rule.rule: (rule.passed, rule.explanation) for rule in gate.rules
    }
