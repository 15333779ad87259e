"""What the API answers, in the form its callers see. Times are RFC 3339 in UTC, sizes are in bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from builder.api.attempts import AttemptView, attempt_views
from builder.api.planned import PlanView, plan_view
from builder.errors import Problem
from builder.forensics.report import Told
from builder.pipeline.evidence import (
    BuildEvidence,
    ComparedSubject,
    ComparisonEvidence,
    RebuildEvidence,
    ReleaseEvidence,
    ScanEvidence,
)
from builder.pipeline.reproduction import outcome
from builder.store.schema import Build, LogLine, Release, Step
from builder.store.states import Priority, Purpose


class View(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class StepView(View):
    name: str = Field(examples=["packages"])
    state: str = Field(examples=["done"], description="running, done, failed or lost (its worker died)")
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None = Field(examples=[4.2])
    summary: str = Field(examples=["18 packages installed"])


class ResultView(View):
    """What was made, and what was found out about it. Empty members belong to stages that have not run yet."""

    digest: str | None = Field(default=None, examples=["sha256:" + "5c" * 32])
    reference: str | None = Field(default=None, examples=["127.0.0.1:5000/golden/web@sha256:" + "5c" * 32])
    tags: list[str] = []
    compressed_size: int | None = None
    packages: int | None = None
    inventory_root: str | None = None
    hermetic: bool | None = None
    tests: int | None = None
    findings: dict[str, int] = Field(default={}, examples=[{"high": 0, "medium": 2, "low": 7}])
    gate: str | None = Field(default=None, examples=["passed"])
    gate_explanation: str | None = None
    sample_database: bool | None = Field(
        default=None,
        description="The scan used the incomplete sample database: only for trying things out.",
    )
    signer_identity: str | None = None
    signer_issuer: str | None = None
    sandbox_signer: bool | None = Field(default=None, description="Signed by the local sandbox, no real Sigstore.")
    log_index: int | None = None


class MatchedView(View):
    """What of a rebuilt image is equal. A newer compressor changes the manifest and nothing else."""

    manifest: bool
    config: bool
    diff_ids: bool
    inventory: bool


class DifferingPathView(View):
    path: str = Field(examples=["/etc/motd"])
    kinds: list[str] = Field(examples=[["content"]])
    golden: str | None = Field(description="The sha256 of its content as it was released.")
    rebuilt: str | None
    package: str | None = Field(examples=["nginx 1.26.3-3+deb13u11"])


class AttestationView(View):
    identity: str
    issuer: str
    log_index: int
    sandbox: bool
    referrer: str = Field(description="The digest of the attestation's manifest beside the image.")


class RebuildView(View):
    """How a rebuilt image compares with the one that was released."""

    rebuilt_digest: str
    outcome: str = Field(examples=["bit for bit: sha256:" + "5c" * 32])
    matched: MatchedView
    paths: int
    differences: list[DifferingPathView] = Field(description="The first 1000 of them.")
    differences_total: int
    offline: bool
    materials_from: dict[str, int] = Field(examples=[{"the registry": 90}], description="Packages by source.")
    attestation: AttestationView | None


class TotalsView(View):
    """Of all findings. What was expected is counted apart and weighs nothing."""

    findings: int
    configuration: int
    expected: int
    expected_configuration: int
    by_severity: dict[str, int] = Field(examples=[{"critical": 1, "high": 0, "medium": 0, "low": 2, "info": 0}])
    by_kind: dict[str, int] = Field(examples=[{"added": 1, "content": 2}])


class OutcomeView(View):
    """What a comparison came to."""

    verdict: Told
    complete: bool = Field(description="Whether everything of the subject was looked at.")
    name: str = Field(description="What the report calls the subject.")
    totals: TotalsView
    inventory_digest: str = Field(description="Of the golden inventory, as it was signed.")
    report_digest: str
    record: int = Field(description="The number of its record in the ledger.")


class ComparedSubjectView(View):
    kind: str = Field(examples=["archive"], description="image, inventory or archive")
    digest: str
    name: str | None
    size: int | None = Field(description="Of an upload.")


class ComparisonView(View):
    id: str = Field(examples=["01jd3m5w8rk0q1v6y2x7z4n9bt"], description="It is a build's, too.")
    state: str = Field(examples=["compared"], description="queued, comparing, compared, failed or cancelled")
    golden: str = Field(examples=["sha256:" + "5c" * 32])
    recipe: str = Field(examples=["web"])
    subject: ComparedSubjectView
    requester: str
    created_at: datetime
    finished_at: datetime | None
    steps: list[StepView]
    outcome: OutcomeView | None = Field(description="Once it is compared.")
    problem: Problem | None = Field(description="Why it could not be compared.")
    links: dict[str, str]


class ComparisonPage(View):
    comparisons: list[ComparisonView]
    next: str | None = Field(description="The path of the next page, or null on the last.")


class SourceView(View):
    repository: str = Field(examples=["https://git.example/acme/images"])
    ref: str = Field(examples=["main"])
    commit: str = Field(examples=["5c" * 20])
    path: str = Field(examples=["images/web.yaml"])


class BuildView(View):
    id: str = Field(examples=["01jd3m5w8rk0q1v6y2x7z4n9bt"])
    purpose: Purpose = Field(
        description="release: an image; lock: its lock alone; plan: a dry run; rebuild: proof that it reproduces; "
        "compare: something held against it."
    )
    state: str = Field(examples=["released"])
    recipe: str = Field(examples=["web"])
    recipe_digest: str
    parameters: dict[str, str | int | bool] = Field(description="What the recipe left open, and was filled in with.")
    source: SourceView | None = Field(description="The commit that the recipe was taken from.")
    locked: bool = Field(description="The request brought a lock; nothing was resolved.")
    subject: str | None = Field(description="The image that a rebuild or comparison is about.")
    unchanged_since: str | None = Field(description="The build that had released the same inputs before.")
    requester: str
    team: str | None = Field(description="Whose limit of running builds it counts for; null is its requester's own.")
    priority: Priority
    retry_of: str | None = Field(description="The build that came to nothing before.")
    attempt: int
    retries: list[AttemptView] = Field(description="The attempts before this one, and why each ended.")
    waits_for: str | None = Field(description="The build of the base image that this one waits for.")
    cancel_requested: bool
    created_at: datetime
    finished_at: datetime | None
    steps: list[StepView]
    result: ResultView
    rebuild: RebuildView | None = Field(description="Of a rebuild: how it compares.")
    comparison: OutcomeView | None = Field(description="Of a comparison: what it came to.")
    plan: PlanView | None = Field(description="Of a dry run: what a build would do.")
    problem: Problem | None = Field(description="Why the build ended without what it was for.")


class BuildPage(View):
    builds: list[BuildView]
    next: str | None = Field(description="The path of the next page, or null on the last.")


class LogLineView(View):
    number: int
    at: datetime
    step: str
    text: str


class LogPage(View):
    lines: list[LogLineView]
    next: int | None = Field(description="Pass it as `after` for more; null when the build has ended and this is all.")


class RescanView(View):
    """The newest scan of a released image's bill of materials."""

    scanned_at: datetime | None
    database_digest: str | None
    above_policy: int = Field(description="How many findings the policy would not allow now.")
    new_above_policy: int = Field(description="Those of them that have come since the release.")
    problem: Problem | None = Field(description="Why the newest try came to nothing.")


class ImageView(View):
    """A released image."""

    digest: str
    reference: str
    repository: str
    tags: list[str]
    recipe: str
    recipe_digest: str
    build: str
    released_at: datetime
    result: ResultView
    rescan: RescanView | None = Field(description="Null until its bill of materials was scanned again.")
    links: dict[str, str]


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def build_view(build: Build, steps: list[Step], registry: str) -> BuildView:
    return BuildView(
        id=build.id,
        purpose=Purpose(build.purpose),
        state=build.state,
        recipe=build.recipe_name,
        recipe_digest=build.recipe_digest,
        parameters=build.options.get("parameters", {}),
        source=SourceView.model_validate(build.options["source"]) if "source" in build.options else None,
        locked=build.lock is not None,
        subject=build.subject,
        unchanged_since=build.evidence.get("unchanged", {}).get("build_id"),
        requester=build.requester,
        team=build.team,
        priority=Priority(build.priority),
        retry_of=build.retry_of,
        attempt=build.attempt,
        retries=attempt_views(build.retries),
        waits_for=build.waits_for,
        cancel_requested=build.cancel_requested,
        created_at=instant(build.created_at),
        finished_at=moment(build.finished_at),
        steps=[step_view(step) for step in steps],
        result=result_view(build.evidence, registry),
        rebuild=rebuild_view(build.evidence),
        comparison=outcome_view(build.evidence),
        plan=plan_view(build.evidence),
        problem=Problem.model_validate(build.problem) if build.problem else None,
    )


def log_line_view(line: LogLine) -> LogLineView:
    return LogLineView(number=line.number, at=instant(line.at), step=line.step, text=line.text)


def step_view(step: Step) -> StepView:
    seconds = None if step.finished_at is None else round(step.finished_at - step.started_at, 3)
    return StepView(
        name=step.name,
        state=step.state,
        started_at=instant(step.started_at),
        finished_at=moment(step.finished_at),
        seconds=seconds,
        summary=step.summary,
    )


def image_view(
    release: Release, evidence: dict[str, Any], registry: str, rescan: RescanView | None = None
) -> ImageView:
    path = f"/v1/images/{release.digest}"
    return ImageView(
        digest=release.digest,
        reference=f"{registry}/{release.repository}@{release.digest}",
        repository=release.repository,
        tags=release.tags,
        recipe=release.recipe_name,
        recipe_digest=release.recipe_digest,
        build=release.build_id,
        released_at=instant(release.released_at),
        result=result_view(evidence, registry),
        rescan=rescan,
        links={
            **{part: f"{path}/{part}" for part in ("provenance", "sbom", "scan", "inventory", "record")},
            "verdict": f"/v1/builds/{release.build_id}/verdict",
        },
    )


def rebuild_view(evidence: dict[str, Any]) -> RebuildView | None:
    if "rebuild" not in evidence:
        return None
    found = RebuildEvidence.model_validate(evidence["rebuild"])
    matched = found.matched
    return RebuildView(
        rebuilt_digest=found.rebuilt_digest,
        outcome=outcome(found),
        matched=MatchedView(
            manifest=matched.manifest, config=matched.config, diff_ids=matched.diff_ids, inventory=matched.inventory
        ),
        paths=found.paths,
        differences=[DifferingPathView.model_validate(one.model_dump()) for one in found.differences],
        differences_total=found.differences_total,
        offline=found.offline,
        materials_from=found.sources,
        attestation=AttestationView.model_validate(found.attestation.model_dump()) if found.attestation else None,
    )


def comparison_view(build: Build, steps: list[Step]) -> ComparisonView:
    assert build.subject is not None, "every comparison has a golden image"
    subject = ComparedSubject.model_validate(build.options["subject"])
    path = f"/v1/comparisons/{build.id}"
    return ComparisonView(
        id=build.id,
        state=build.state,
        golden=build.subject,
        recipe=build.recipe_name,
        subject=ComparedSubjectView(kind=subject.kind, digest=subject.digest, name=subject.name, size=subject.size),
        requester=build.requester,
        created_at=instant(build.created_at),
        finished_at=moment(build.finished_at),
        steps=[step_view(step) for step in steps],
        outcome=outcome_view(build.evidence),
        problem=Problem.model_validate(build.problem) if build.problem else None,
        links={"build": f"/v1/builds/{build.id}", "report": f"{path}/report"},
    )


def outcome_view(evidence: dict[str, Any]) -> OutcomeView | None:
    if "comparison" not in evidence:
        return None
    found = ComparisonEvidence.model_validate(evidence["comparison"])
    totals = found.totals
    return OutcomeView(
        verdict=found.verdict,
        complete=found.complete,
        name=found.name,
        totals=TotalsView.model_validate(totals.model_dump()),
        inventory_digest=found.inventory_digest,
        report_digest=found.report_digest,
        record=found.record,
    )


def result_view(evidence: dict[str, Any], registry: str) -> ResultView:
    found: dict[str, Any] = {}
    if "build" in evidence:
        built = BuildEvidence.model_validate(evidence["build"])
        found |= {
            "digest": built.image.manifest_digest,
            "compressed_size": built.image.compressed_size,
            "packages": built.image.packages,
            "inventory_root": built.image.inventory_root,
            "hermetic": built.hermetic,
            "tests": len(built.tests),
        }
    if "scan" in evidence:
        scanned = ScanEvidence.model_validate(evidence["scan"])
        counts = scanned.findings.vulnerabilities_by_severity()
        found |= {
            "findings": {str(severity).lower(): count for severity, count in counts.items()},
            "gate": "passed" if scanned.verdict.passed else "failed",
            "gate_explanation": scanned.verdict.summary,
            "sample_database": scanned.database.sample,
        }
    if "release" in evidence:
        released = ReleaseEvidence.model_validate(evidence["release"])
        found |= {
            "reference": f"{registry}/{released.repository}@{found['digest']}",
            "tags": list(released.tags),
            "signer_identity": released.identity,
            "signer_issuer": released.issuer,
            "sandbox_signer": released.sandbox,
            "log_index": released.log_index,
        }
    return ResultView(**found)
