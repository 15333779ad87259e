"""The API's answers, as far as a client uses them. A newer server may say more; that is ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from builder.errors import Problem


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Page(Answer):
    """`next` is the path of the page that follows, None on the last."""

    next: str | None = None


class Step(Answer):
    """`state` is running, done, failed or lost; a step that is begun anew is another one, with another start."""

    name: str
    state: str
    started_at: datetime
    finished_at: datetime | None = None
    seconds: float | None = None
    summary: str = ""


class Result(Answer):
    """What was made, and found out about it; what is not known yet is None. Sizes in bytes."""

    digest: str | None = None
    reference: str | None = None
    tags: tuple[str, ...] = ()
    compressed_size: int | None = None
    packages: int | None = None
    inventory_root: str | None = None
    hermetic: bool | None = None
    tests: int | None = None
    findings: dict[str, int] = {}
    gate: str | None = None
    gate_explanation: str | None = None
    sample_database: bool | None = None
    signer_identity: str | None = None
    signer_issuer: str | None = None
    sandbox_signer: bool | None = None
    log_index: int | None = None


class Attestation(Answer):
    identity: str
    issuer: str
    log_index: int
    sandbox: bool
    referrer: str


class AttestationEntry(Answer):
    """`kind` is what it says of the image; `digest` is the bundle's; the registry has it as `referrer`."""

    kind: str
    digest: str
    referrer: str | None = None


class AttestationPage(Page):
    attestations: tuple[AttestationEntry, ...]


class Released(Answer):
    """A release; `record` is its number in the ledger."""

    record: int
    record_digest: str
    digest: str
    reference: str
    recipe: str
    recipe_digest: str
    requester: str
    released_at: datetime
    tags: tuple[str, ...]
    build: str


class ReleasedPage(Page):
    releases: tuple[Released, ...]


class Matched(Answer):
    manifest: bool
    config: bool
    diff_ids: bool
    inventory: bool


class DifferingPath(Answer):
    """`golden` and `rebuilt` are the sha256 of its content as it was and as it became, in hex."""

    path: str
    kinds: tuple[str, ...]
    golden: str | None = None
    rebuilt: str | None = None
    package: str | None = None


class Rebuild(Answer):
    """How a rebuilt image compares with the one that was released. `materials_from` counts packages by source."""

    rebuilt_digest: str
    outcome: str
    matched: Matched
    paths: int
    offline: bool
    materials_from: dict[str, int] = {}
    differences: tuple[DifferingPath, ...] = ()
    differences_total: int = 0
    attestation: Attestation | None = None


class Totals(Answer):
    findings: int
    configuration: int = 0
    expected: int = 0
    by_severity: dict[str, int] = {}


class Outcome(Answer):
    """What a comparison came to; `name` is what its report calls the subject."""

    verdict: str
    complete: bool
    name: str
    totals: Totals
    report_digest: str


class Comparison(Answer):
    """A comparison as it was taken in. It is a build, too, and followed as one."""

    id: str
    state: str
    golden: str


class PlannedPackage(Answer):
    """`source` is cache, registry, archive or unknown; `size` is in bytes."""

    name: str
    version: str
    architecture: str
    size: int
    bootstrap: bool
    source: str


class Unchanged(Answer):
    build_id: str
    digest: str


class Plan(Answer):
    """What a build would do."""

    builds_first: tuple[str, ...] = ()
    hermetic: bool = True
    base: str | None = None
    base_cached: bool = False
    packages: tuple[PlannedPackage, ...] = ()
    fetch_bytes: int = 0
    files: tuple[str, ...] = ()
    lock_given: bool = False
    unchanged: Unchanged | None = None


class Source(Answer):
    """The commit that a recipe was taken from."""

    repository: str
    ref: str
    commit: str
    path: str


class Attempt(Answer):
    attempt: int
    at: datetime
    state: str
    type: str
    detail: str


class Build(Answer):
    id: str
    purpose: str = "release"
    state: str
    recipe: str
    recipe_digest: str
    requester: str
    team: str | None = None
    attempt: int
    parameters: dict[str, str | int | bool] = {}
    source: Source | None = None
    retries: tuple[Attempt, ...] = ()
    locked: bool = False
    subject: str | None = None
    unchanged_since: str | None = None
    priority: str = "normal"
    retry_of: str | None = None
    waits_for: str | None = None
    cancel_requested: bool = False
    created_at: datetime
    finished_at: datetime | None = None
    steps: tuple[Step, ...] = ()
    result: Result = Result()
    rebuild: Rebuild | None = None
    comparison: Outcome | None = None
    plan: Plan | None = None
    problem: Problem | None = None

    @property
    def released(self) -> bool:
        return self.state == "released"

    @property
    def succeeded(self) -> bool:
        """It ended as its purpose wants it."""
        return self.state in ("released", "locked", "planned", "reproduced", "compared")

    @property
    def ended(self) -> bool:
        return self.succeeded or self.state in ("failed", "cancelled")


class BuildPage(Page):
    builds: tuple[Build, ...]


class LogLine(Answer):
    number: int
    at: datetime
    step: str
    text: str


class LogPage(Answer):
    """`next` is what to ask for more with; None when the build has ended and this is all."""

    lines: tuple[LogLine, ...]
    next: int | None = None


class ListedRecipe(Answer):
    name: str
    description: str = ""
    version: str | None = None
    digest: str
    base: str
    repository: str
    tags: tuple[str, ...] = ()


class RecipePage(Page):
    recipes: tuple[ListedRecipe, ...]
    invalid: dict[str, str] = {}


class Rescan(Answer):
    """What the newest scan of a released image's bill of materials found."""

    scanned_at: datetime | None = None
    above_policy: int = 0
    new_above_policy: int = 0
    problem: Problem | None = None

    @property
    def told(self) -> str:
        if self.scanned_at is None:
            return f"not scanned again: {self.problem.detail}" if self.problem else "not scanned again yet"
        return (
            f"{self.above_policy} above the policy, {self.new_above_policy} of them new, "
            f"scanned {self.scanned_at:%Y-%m-%d %H:%M} UTC"
        )


class Image(Answer):
    """A released image."""

    digest: str
    reference: str
    recipe: str
    recipe_digest: str
    build: str
    tags: tuple[str, ...] = ()
    released_at: datetime
    result: Result = Result()
    rescan: Rescan | None = None


class ExceptionTold(Answer):
    """An exception from the policy; `state` is active, pending, refused, EXPIRED or revoked."""

    id: str
    state: str
    vulnerability: str
    package: str | None = None
    recipe: str | None = None
    digest: str | None = None
    owner: str
    reason: str
    status: str
    source: str
    created: datetime
    expires: datetime
    days_left: int
    problem: Problem | None = None

    @property
    def scope(self) -> str:
        named = (("package", self.package), ("recipe", self.recipe), ("image", self.digest))
        return ", ".join(f"{name} {value}" for name, value in named if value)


class ExceptionPage(Page):
    exceptions: tuple[ExceptionTold, ...]


class Imported(Answer):
    exceptions: tuple[ExceptionTold, ...]
    left_out: tuple[str, ...]


class FindingTold(Answer):
    """A vulnerability of a released image."""

    id: int
    digest: str
    recipe: str
    vulnerability: str
    package: str
    installed: str
    fixed: str | None = None
    severity: str
    above_policy: bool
    since_release: bool
    first_seen: datetime
    last_seen: datetime
    exception: str | None = None


class FindingPage(Page):
    findings: tuple[FindingTold, ...]


class Round(Answer):
    """A round of scans: queued, done or failed."""

    state: str
    requested_at: datetime
    finished_at: datetime | None = None
    problem: Problem | None = None


class Health(Answer):
    """Whether the service is ready; `checks` say how what it needs is."""

    status: str
    checks: dict[str, str] = {}


class TrustOffer(Answer):
    """Whom the server says it signs as, and the trusted root (sigstore's JSON form) to check that with."""

    identity: str | None = None
    issuer: str | None = None
    trusted_root: dict[str, Any]
