"""A release answers for itself as long as it would pass the gate today: by its facts, and by what is known since."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from builder.errors import SettingsInvalid
from builder.pipeline.evidence import kept
from builder.pipeline.excepting import sign_document, submit_exception
from builder.pipeline.services import Services
from builder.pipeline.standing import stands
from builder.policy.facts import MEDIA_TYPE, Facts
from builder.recipes.reading import canonical_json, read_recipe
from builder.scanning.findings import Findings, Severity, Vulnerability
from builder.settings import Settings
from builder.store import attachments, builds, exceptions, findings
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.schema import Release, VexDocument
from tests.integration.sandbox_server import Sandbox
from tests.unit.api import RECIPE
from tests.unit.evidence import build_evidence, digest, judged_evidence
from tests.unit.judged import DIGEST, NOW, facts

pytest_plugins = ["tests.unit.databases"]

RULES = "apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {name: acme, version: '1'}\nspec:\n  rules: "
KNOWN = Vulnerability(
    id="CVE-2026-7", package="libc6", installed="2.41-12", fixed="2.41-13", severity=Severity.HIGH, status="fixed",
    target="t",
)  # fmt: skip


@pytest.fixture
def services(sandbox: Sandbox, tmp_path: Path, migrated_file: Path) -> Services:
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    (tmp_path / "policy.yaml").write_text(RULES + "{}\n")
    return Services(
        Settings(
            database_url=f"sqlite:///{tmp_path / 'goldsmith.db'}",
            state_directory=tmp_path,
            policy=tmp_path / "policy.yaml",
            exception_approvers=("security",),
            sigstore_trust_config=sandbox.client_trust_config,
            signer_identity=sandbox.identity,
            signer_issuer=sandbox.issuer,
            identity_token_url=f"{sandbox.url}/oidc/token",
            identity_client_id=sandbox.credentials().client_id,
            identity_client_secret_file=sandbox.credentials().secret_file,
        )
    )


def demand(services: Services, rules: str) -> None:
    assert services.settings.policy is not None
    services.settings.policy.write_text(f"{RULES}{{{rules}}}\n")


class House:
    """One release of the recipe `app`, with what it was judged by."""

    def __init__(self, services: Services, judged: Facts, *, content: bytes | None = b"", own: str = "") -> None:
        """`content` is what is kept as the facts: the facts themselves, other bytes, or (None) nothing."""
        self.services = services
        self.recipe = read_recipe(RECIPE.replace("NAME", "app") + own)
        with services.database.write() as session:
            asked = Submission("app", digest("1"), canonical_json(self.recipe).decode(), "catalogue", "ci")
            build = builds.submit(session, asked)
            build.evidence = {"build": kept(build_evidence(DIGEST)), "scan": kept(judged_evidence(judged))}
            if content is not None:
                attachments.attach(session, build.id, Kind.FACTS, MEDIA_TYPE, content or judged.to_bytes())
            self.release = Release(
                build_id=build.id, digest=DIGEST, recipe_name="app", recipe_digest=digest("1"), registry_host="r",
                repository="golden/app", tags=[], released_at=time.time(),
            )  # fmt: skip
            session.add(self.release)
        with services.database.read() as session:
            self.release = session.scalars(select(Release)).one()

    def stands(self) -> bool:
        return stands(self.services, self.release, self.recipe)


class TestThePolicy:
    def test_that_has_not_changed_lets_it_stand(self, services: Services) -> None:
        assert House(services, facts()).stands()

    @pytest.mark.parametrize(
        ("rules", "passes"),
        [
            ("hermetic: {}, reproducible: {}, healthcheck: {}", True),
            ("imageSize: {maximumCompressedBytes: 1000}", True),
            ("imageSize: {maximumCompressedBytes: 999}", False),
            ("packages: {deny: [openssl]}", False),
            ("tests: {minimum: 2}", False),
        ],
    )
    def test_that_has_become_stricter_judges_what_was_released_before(
        self, services: Services, rules: str, passes: bool
    ) -> None:
        house = House(services, facts())
        demand(services, rules)
        assert house.stands() is passes

    def test_that_asks_what_nobody_had_looked_at_lets_nothing_stand(self, services: Services) -> None:
        house = House(services, facts(updates=None, reproduced=None))
        assert house.stands()
        demand(services, "updates: {}")
        assert not house.stands()
        demand(services, "reproducible: {}")
        assert not house.stands()

    def test_of_the_recipe_counts_too(self, services: Services) -> None:
        assert House(services, facts(), own="  policy: {rules: {hermetic: {}}}\n").stands()

    def test_of_the_recipe_can_refuse(self, services: Services) -> None:
        assert not House(services, facts(hermetic=False), own="  policy: {rules: {hermetic: {}}}\n").stands()

    def test_with_a_rule_of_its_own_is_asked_too(self, services: Services) -> None:
        house = House(services, facts())
        assert services.settings.policy is not None
        rule = "{name: small, title: Small, expression: 'facts.packages.size() < NUMBER', remedy: less}"
        for number, passes in (("3", True), ("2", False)):
            services.settings.policy.write_text(f"{RULES}{{}}\n  custom: [{rule.replace('NUMBER', number)}]\n")
            assert house.stands() is passes

    def test_with_a_typo_is_no_policy(self, services: Services) -> None:
        house = House(services, facts())
        demand(services, "hermitic: {}")
        with pytest.raises(SettingsInvalid, match="hermitic"):
            house.stands()

    def test_counts_ages_until_today(self, services: Services) -> None:
        days = (datetime.now(UTC) - NOW).days + 10
        house = House(services, facts())
        demand(services, f"baseAge: {{maximumDays: {days + 1}}}")
        assert house.stands()
        demand(services, f"baseAge: {{maximumDays: {days - 1}}}")
        assert not house.stands()


class TestFacts:
    @pytest.mark.parametrize("content", [None, b"{}", facts(hermetic=False).to_bytes()])
    def test_that_are_missing_or_others_let_nothing_stand(self, services: Services, content: bytes | None) -> None:
        assert not House(services, facts(), content=content).stands()


class TestAReScan:
    @pytest.mark.parametrize("passed", [True, False])
    def test_decides_too(self, services: Services, passed: bool) -> None:
        house = House(services, facts())
        with services.database.write() as session:
            findings.mark_scanned(session, DIGEST, digest("8"), digest("9"), passed=passed)
        assert house.stands() is passed


class TestExceptions:
    def excepted(self, services: Services, lasting: timedelta) -> tuple[House, str]:
        """A release that passed because of an exception."""
        house = House(services, facts(findings=Findings(vulnerabilities=(KNOWN,))))
        told = {
            "vulnerability": KNOWN.id, "package": "libc6", "owner": "ann", "reason": "not reachable",
            "expires": datetime.now(UTC) + lasting,
        }  # fmt: skip
        made = submit_exception(services, told, requester="security")
        with services.database.read() as session:
            (document,) = session.scalars(select(VexDocument.id))
        sign_document(services, document)
        return house, made.id

    def test_without_one_it_does_not_stand(self, services: Services) -> None:
        assert not House(services, facts(findings=Findings(vulnerabilities=(KNOWN,)))).stands()

    def test_one_that_holds_still_holds(self, services: Services) -> None:
        house, _ = self.excepted(services, timedelta(days=30))
        assert house.stands()

    def test_one_that_has_expired_since_does_not(self, services: Services) -> None:
        house, _ = self.excepted(services, timedelta(seconds=3))
        assert house.stands()
        time.sleep(3.1)
        assert not house.stands()

    def test_one_that_was_revoked_since_does_not(self, services: Services) -> None:
        house, made = self.excepted(services, timedelta(days=30))
        with services.database.write() as session:
            exceptions.revoke(session, made, "security")
        assert not house.stands()
