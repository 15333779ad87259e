"""What a release signs about its image, once: a worker that takes over goes on with what was signed before it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from builder.errors import Broken
from builder.image.digests import digest_of
from builder.image.documents import Descriptor
from builder.pipeline.attestations import (
    bill_of_materials,
    is_ours,
    recipe_tests,
    references,
    signed_by_us,
    verification_summary,
    vulnerability_scan,
)
from builder.pipeline.journal import StepScope
from builder.pipeline.patience import patiently
from builder.pipeline.provenance import provenance
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.registry.artifact import BUNDLE
from builder.registry.reference import Repository
from builder.signing.signer import SignedBundle, read_signed
from builder.signing.statement import Statement, Subject
from builder.signing.verification import VerificationFailed
from builder.store import attachments, builds, journal
from builder.store.attachments import Kind

BESIDE_IMAGE = (Kind.INVENTORY, Kind.CYCLONEDX, Kind.SPDX, Kind.SCAN)

# What a provenance says of the run differs from try to try; this part does not.
_DEFINITION = ("externalParameters", "resolvedDependencies")


def sign_release(
    services: Services, task: Task, step: StepScope, image: Descriptor, target: Repository
) -> dict[Kind, SignedBundle]:
    """Every statement about the image in a verified bundle, kept before anybody is shown one.

    Raises what signing raises, once patience has come to its end; then nothing has been published.
    """
    stated = _statements(services, task, image, target)
    before = _signed_before(services, task, stated)
    if before is not None:
        step.log("signed before, by a worker that was lost: going on with that")
        return before
    signed = patiently(lambda: signed_by_us(services, list(stated.values())), check=task.watch.check, told=step.log)
    bundles = dict(zip(stated, signed, strict=True))
    with services.database.write() as session:
        build = builds.held_build(session, task.claim)
        for kind, one in bundles.items():
            attachments.attach(session, build.id, kind, BUNDLE, one.bundle)
    return bundles


def beside_image(services: Services, task: Task) -> dict[Kind, tuple[str, bytes]]:
    """What stands beside the image, unsigned but named in what is signed by digest: media type and content."""
    with services.database.read() as session:
        return {kind: _attached(session, task.build.id, kind) for kind in BESIDE_IMAGE}


def _statements(services: Services, task: Task, image: Descriptor, target: Repository) -> dict[Kind, Statement]:
    build, builder_id = task.build, services.settings.builder_id
    subject = Subject.of(str(target), image.digest)
    log = _keep_log(services, task)
    content = beside_image(services, task)
    beside = {kind: (media_type, digest_of(one)) for kind, (media_type, one) in content.items()}
    with services.database.read() as session:
        done = [step for step in journal.steps_of(session, build.id) if step.finished_at is not None]
    statements = {
        Kind.PROVENANCE: provenance(build, done, builder_id, log).statement(subject),
        Kind.SIGNATURE: Statement.signature(subject.name, image.digest),
        Kind.TESTS: recipe_tests(build).statement(subject),
        Kind.SCAN_ATTESTATION: vulnerability_scan(build, done).statement(subject),
        Kind.VERDICT: verification_summary(build, done, builder_id, target.at(image.digest)).statement(subject),
        Kind.SBOM_ATTESTATION: bill_of_materials(content[Kind.CYCLONEDX][1], subject),
        Kind.REFERENCES: references(build, beside, builder_id, services.registry.url(target)).statement(subject),
    }
    return {kind: statement for kind, statement in statements.items() if statement is not None}


def _signed_before(services: Services, task: Task, stated: dict[Kind, Statement]) -> dict[Kind, SignedBundle] | None:
    """What an earlier try of this release has signed, if it is all there, verifies, and says what we would say."""
    found: dict[Kind, SignedBundle] = {}
    with services.database.read() as session:
        kept = {kind: attachments.find(session, task.build.id, kind) for kind in stated}
        bundles = {kind: attachments.content(session, one) for kind, one in kept.items() if one is not None}
    for kind, statement in stated.items():
        if kind not in bundles:
            return None
        try:
            signed, said = read_signed(bundles[kind], services.trust, statement.subject[0].sha256)
        except VerificationFailed:
            return None
        if not is_ours(services, signed) or not _as_good(kind, said, statement):
            return None
        found[kind] = signed
    return found


def _as_good(kind: Kind, said: Statement, stated: Statement) -> bool:
    if kind is not Kind.PROVENANCE:
        return said == stated
    return said.subject == stated.subject and all(
        _definition(said).get(name) == _definition(stated).get(name) for name in _DEFINITION
    )


def _definition(statement: Statement) -> dict[str, object]:
    found = statement.predicate.get("buildDefinition")
    return dict(found) if isinstance(found, dict) else {}


def _keep_log(services: Services, task: Task) -> str:
    """The log up to here, kept for good; its digest."""
    with services.database.write() as session:
        build = builds.held_build(session, task.claim)
        content = journal.whole_log(session, build.id)
        return attachments.attach(session, build.id, Kind.LOG, journal.LOG_TYPE, content)


def _attached(session: Session, build_id: str, kind: Kind) -> tuple[str, bytes]:
    attachment = attachments.find(session, build_id, kind)
    if attachment is None:
        raise Broken(f"build {build_id} has no {kind} to publish")
    return attachment.media_type, attachments.content(session, attachment)
