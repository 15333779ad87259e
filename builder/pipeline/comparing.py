"""Taking a comparison in: of what was released here with an image of the same registry, or with what was uploaded."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from builder.errors import GoldsmithError
from builder.forensics.subjects.subject import SubjectKind
from builder.image.digests import digest_of
from builder.pipeline.evidence import ComparedSubject, kept
from builder.pipeline.rebuilding import image_unknown, refuse_elsewhere
from builder.pipeline.services import Services
from builder.pipeline.uploads import REPOSITORY, stage_upload
from builder.registry.errors import ReferenceInvalid
from builder.registry.reference import parse_reference
from builder.store import builds, outbox, releases
from builder.store.builds import Submission
from builder.store.schema import Build, Release
from builder.store.states import Purpose

log = logging.getLogger("goldsmith")


def submit_image(services: Services, golden: str, image: str, *, requester: str, team: str | None) -> Build:
    """A new build that compares an image of this service's registry, HOST/REPOSITORY@sha256:… or :TAG.

    No other host is ever asked. Raises ImageUnknown, ReferenceInvalid, DigestInvalid, ImageElsewhere, ManifestUnknown,
    and what else the registry client raises.
    """
    reference = parse_reference(image)
    refuse_elsewhere(services, reference.repository.registry)
    if reference.tag is None and reference.digest is None:
        raise ReferenceInvalid(f"{reference} names no image", hint="add :TAG or @sha256:DIGEST")
    found = _released(services, golden)
    digest = services.impatient_registry.manifests.get(reference).digest
    subject = ComparedSubject(kind=SubjectKind.IMAGE, digest=digest, name=str(reference))
    return _submit(services, _submission(found, subject, requester, team))


def submit_upload(
    services: Services, golden: str, file: Path, subject: ComparedSubject, *, requester: str, team: str | None
) -> Build:
    """A new build that compares an upload, which goes to the registry first.

    Raises ImageUnknown, and what the registry client raises.
    """
    submission = _submission(_released(services, golden), subject, requester, team, staged=True)
    stage_upload(services, services.registry, file, subject)
    try:
        build = _submit(services, submission)
    except Exception:
        _take_back(services, subject)  # nobody else would
        raise
    # Whoever had staged the same before may have taken it back in between; from now on they see that it is needed.
    try:
        stage_upload(services, services.registry, file, subject)
    except GoldsmithError as error:
        log.warning("build %s: its upload could not be looked for again: %s", build.id, error)
    return build


def _take_back(services: Services, subject: ComparedSubject) -> None:
    try:
        with services.database.read() as session:
            if builds.is_staged(session, REPOSITORY, subject.digest):
                return
        services.registry.blobs.delete(services.staging(REPOSITORY), subject.digest)
    except (GoldsmithError, SQLAlchemyError) as error:
        log.warning("an upload that was not taken in, %s, stays in the registry: %s", subject.digest, error)


def released_by(services: Services, golden: str) -> Build:
    """The build that an image is of. Raises ImageUnknown unless it was released here."""
    return _released(services, golden)[1]


def subject_of(build: Build) -> ComparedSubject:
    return ComparedSubject.model_validate(build.options["subject"])


def _released(services: Services, golden: str) -> tuple[Release, Build]:
    with services.database.read() as session:
        release = releases.of_image(session, golden, services.settings.registry)
        if release is None:
            raise image_unknown(golden)
        return release, builds.get(session, release.build_id)


def _submission(
    found: tuple[Release, Build],
    subject: ComparedSubject,
    requester: str,
    team: str | None,
    *,
    staged: bool = False,
) -> Submission:
    release, build = found
    return Submission(
        recipe_name=build.recipe_name,
        recipe_digest=digest_of(build.recipe.encode()),
        recipe=build.recipe,
        origin="release",
        requester=requester,
        team=team,
        purpose=Purpose.COMPARE,
        subject=release.digest,
        options={"repository": release.repository, "subject": kept(subject)},
        staged=subject.digest if staged else None,
        staging_repository=REPOSITORY if staged else None,
    )


def _submit(services: Services, submission: Submission) -> Build:
    with services.database.write() as session:
        outbox.refuse_full(session, services.settings.waiting_builds)
        return builds.submit(session, submission)
