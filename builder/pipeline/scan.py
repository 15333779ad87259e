"""The scan stage: Trivy on the staged digest, and the gate."""

from __future__ import annotations

import logging
from typing import Any

from builder.errors import GoldsmithError
from builder.pipeline.evidence import BuildEvidence, ScanEvidence, kept
from builder.pipeline.excepting import active_exceptions
from builder.pipeline.facts import gather
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.staging import take_back
from builder.policy.effective import EffectivePolicy, effective
from builder.policy.facts import MEDIA_TYPE as FACTS_TYPE
from builder.policy.facts import Facts
from builder.policy.gate import evaluate
from builder.policy.verdict import GateFailed, Verdict
from builder.scanning.database import ensure
from builder.scanning.findings import DatabaseIdentity, ScanResult
from builder.store import attachments, builds
from builder.store.attachments import Kind
from builder.store.schema import Build
from builder.store.states import State

CYCLONEDX_TYPE = "application/vnd.cyclonedx+json"
SPDX_TYPE = "application/spdx+json"
REPORT_TYPE = "application/vnd.aquasec.trivy.report+json"
SARIF_TYPE = "application/sarif+json"
_DATABASE_SECONDS = 900.0

log = logging.getLogger("goldsmith")


def look_ahead(services: Services, build_id: str) -> bool:
    """Scan an image while the build worker still tests it; whether it was the time for that.

    Only a worker that scans one build at a time keeps what it found for the stage; no other is harmed.
    """
    with services.database.read() as session:
        build = session.get(Build, build_id)
        if build is None or build.state != State.BUILDING or not (build.image_digest and build.staging_repository):
            return False
        reference = services.staging(build.staging_repository).at(build.image_digest)
    try:
        have_database(services)
        services.scanner.scan_ahead(str(reference), insecure=_insecure(services), credentials=services.scan_login)
    except GoldsmithError as error:
        log.info("build %s: not scanned ahead: %s", build_id, error)
    return True


class ScanStage:
    def __init__(self, services: Services) -> None:
        self._services = services

    def work(self, task: Task) -> dict[str, Any]:
        services = self._services
        built = BuildEvidence.model_validate(task.build.evidence["build"])
        policy = effective(services.policy, task.recipe.metadata.name, task.recipe.spec.policy)
        allow_stale = _allows_stale(policy)
        with task.journal.step("database") as step:
            database = have_database(services, allow_stale=allow_stale)
            mark = "SAMPLE database, not complete: " if database.sample else ""
            step.summary = f"{mark}{database.source}, of {database.updated_at:%Y-%m-%d %H:%M}Z, {database.digest}"
        with task.journal.step("scan") as step:
            reference = services.staging(task.recipe.spec.publish.repository).at(built.image.manifest_digest)
            result = services.scanner.scan(
                str(reference),
                insecure=_insecure(services),
                credentials=services.scan_login,
                allow_stale=allow_stale,
                should_stop=task.watch.should_stop,
            )
            found = result.findings
            step.summary = (
                f"{result.package_count} packages, {len(found.vulnerabilities)} vulnerabilities, "
                f"{len(found.secrets)} secrets" + (" (sample database)" if database.sample else "")
            )
        with task.journal.step("gate") as step:
            facts = gather(services, task, built, result)
            believed = active_exceptions(services, {one.id for one in facts.findings.vulnerabilities})
            for why in believed.disbelieved:
                step.log(f"does not count: {why}")
            verdict = evaluate(policy, facts, exceptions=believed.exceptions)
            for rule in verdict.rules:
                step.log(f"{'passed' if rule.passed else 'FAILED'}: {rule.rule}: {rule.explanation}")
            for one in verdict.excepted:
                step.log(f"excepted: {one.vulnerability} in {one.package} by {one.owner}: {one.reason}")
            evidence = self._keep(task, result, facts, verdict)
            if not verdict.passed:
                raise GateFailed.of(verdict)
            step.summary = verdict.summary
        return {"scan": evidence}

    def clean_up(self, build_id: str) -> None:
        take_back(self._services, build_id)

    def _keep(self, task: Task, result: ScanResult, facts: Facts, verdict: Verdict) -> dict[str, Any]:
        """The scan is kept whether the gate passes or not: a refusal must show what it rests on."""
        with self._services.database.write() as session:
            build = builds.held_build(session, task.claim)
            cyclonedx = attachments.attach(session, build.id, Kind.CYCLONEDX, CYCLONEDX_TYPE, result.cyclonedx)
            spdx = attachments.attach(session, build.id, Kind.SPDX, SPDX_TYPE, result.spdx)
            report = attachments.attach(session, build.id, Kind.SCAN, REPORT_TYPE, result.report)
            sarif = attachments.attach(session, build.id, Kind.SARIF, SARIF_TYPE, result.sarif)
            attachments.attach(session, build.id, Kind.FACTS, FACTS_TYPE, facts.to_bytes())
            evidence = kept(
                ScanEvidence(
                    scanner=result.scanner,
                    database=result.database,
                    # Each package's licences are in the report: a record that lasts needs them only once.
                    findings=result.findings.model_copy(update={"licenses": ()}),
                    verdict=verdict,
                    report_digest=report,
                    cyclonedx_digest=cyclonedx,
                    spdx_digest=spdx,
                    sarif_digest=sarif,
                    started_at=result.started_at,
                    seconds=result.seconds,
                )
            )
            build.evidence = {**build.evidence, "scan": evidence}
        return evidence


def have_database(services: Services, *, allow_stale: bool = False) -> DatabaseIdentity:
    """The database to scan with, fetched when that is due. Raises DatabaseMissing, DatabaseStale, DatabaseCorrupt."""
    return ensure(
        services.trivy,
        services.database_source,
        services.trivy_cache,
        maximum_age=services.database_age,
        timeout=_DATABASE_SECONDS,
        allow_stale=allow_stale,
    )


def _allows_stale(policy: EffectivePolicy) -> bool:
    database = policy.demands.database
    return database is not None and database.when_stale == "warn"


def _insecure(services: Services) -> bool:
    return services.settings.registry in services.settings.insecure_registries
