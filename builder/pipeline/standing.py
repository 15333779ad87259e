"""Would an image that was released before pass the gate today? The facts that were kept tell: no image is needed."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import ValidationError

from builder.image.digests import digest_of
from builder.pipeline.evidence import ScanEvidence
from builder.pipeline.excepting import active_exceptions
from builder.pipeline.services import Services
from builder.policy.effective import effective
from builder.policy.facts import Facts
from builder.policy.gate import evaluate
from builder.recipes.model import Recipe
from builder.store import attachments, builds, findings
from builder.store.attachments import Kind
from builder.store.schema import Release


def stands(services: Services, release: Release, recipe: Recipe) -> bool:
    """Whether the policy of today and the exceptions that hold today let a release pass, by its facts and by what
    re-scans have found since. Ages are counted until now. In doubt it does not.

    Raises SettingsInvalid, and what the trust root raises.
    """
    facts = _facts(services, release)
    if facts is None:
        return False
    today = facts.model_copy(update={"gathered_at": datetime.now(UTC)})
    policy = effective(services.policy, recipe.metadata.name, recipe.spec.policy)
    believed = active_exceptions(services, {one.id for one in facts.findings.vulnerabilities})
    return evaluate(policy, today, exceptions=believed.exceptions).passed


def _facts(services: Services, release: Release) -> Facts | None:
    """Those that the release was judged by. None where they are not kept, are not those, or a re-scan found worse."""
    with services.database.read() as session:
        build = builds.get(session, release.build_id)
        rescan = findings.rescan_of(session, release.digest)
        attached = attachments.find(session, release.build_id, Kind.FACTS)
        content = attachments.content(session, attached) if attached is not None else b""
    judged = ScanEvidence.model_validate(build.evidence["scan"]).verdict.facts_digest
    if digest_of(content) != judged or (rescan is not None and rescan.passed is False):
        return None
    try:
        return Facts.model_validate_json(content)
    except ValidationError:
        return None  # another version wrote them
