"""Released images scanned again, from the bills of materials that were kept: no image is pulled.

An image is scanned when what decides the outcome has changed since: the database, the organisation's policy, or which
exceptions hold.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from builder.errors import Broken, GoldsmithError
from builder.image.digests import digest_of
from builder.pipeline.evidence import ScanEvidence
from builder.pipeline.excepting import active_exceptions
from builder.pipeline.notifying import announce_risen
from builder.pipeline.rejudging import limits_of, rejudged
from builder.pipeline.scan import have_database
from builder.pipeline.services import Services
from builder.policy.exceptions import PolicyException
from builder.policy.organisation import OrganisationPolicy
from builder.recipes.model import Recipe
from builder.scanning.database import Database
from builder.scanning.findings import Findings
from builder.store import builds, exceptions, findings
from builder.store.attachments import Kind
from builder.store.exceptions import content
from builder.store.findings import Stored

_CHUNK = 100
_AT_ONCE = 4

log = logging.getLogger("goldsmith")


@dataclass(frozen=True)
class Rescanned:
    """How many images were scanned, left as they were, or could not be scanned; `risen` counts the findings that have
    come above the policy."""

    scanned: int
    unchanged: int
    failed: int
    risen: int


def rescan_all(services: Services) -> Rescanned:
    """Scan every released image for which the database, the policy or the exceptions have changed.

    One that cannot be scanned does not keep the others from it, and is tried again in the next round. Raises
    SettingsInvalid, DatabaseMissing, DatabaseStale or DatabaseCorrupt, and then nothing is said about any image.
    """
    policy = services.policy
    have_database(services)
    database = services.scanner.database()
    with services.database.read() as session:
        judged_by = _judged_by(database, policy, exceptions.holding(session))
        stored = findings.stored_images(session, services.settings.registry, Kind.CYCLONEDX)
    due = [one for one in stored if one.judged_by != judged_by]
    failed = risen = 0
    for images in _chunks(due):
        outcomes = _scan(services, database, images)
        names = {one.id for found in outcomes if isinstance(found, Findings) for one in found.vulnerabilities}
        held = active_exceptions(services, names).exceptions
        for image, outcome in zip(images, outcomes, strict=True):
            if isinstance(outcome, Findings):
                risen += _note(services, policy, image, outcome, held, database, judged_by)
            else:
                failed += 1
                with services.database.write() as session:
                    findings.mark_failed(session, image.digest, outcome.problem())
    log.info("scanned %d released images again, %d failed, %d findings have risen", len(due) - failed, failed, risen)
    return Rescanned(len(due) - failed, len(stored) - len(due), failed, risen)


def _scan(services: Services, database: Database, images: Sequence[Stored]) -> list[Findings | GoldsmithError]:
    def scan(image: Stored) -> Findings | GoldsmithError:
        try:
            with services.database.read() as session:
                document = content(session, image.sbom_digest)
            if digest_of(document) != image.sbom_digest:
                return Broken(f"the bill of materials of {image.digest} is not what was kept")
            return services.scanner.scan_sbom(document, database=database)
        except GoldsmithError as error:
            log.warning("image %s was not scanned again: %s", image.digest, error)
            return error

    with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1), thread_name_prefix="rescan") as pool:
        return list(pool.map(scan, images))


def _note(
    services: Services,
    policy: OrganisationPolicy,
    image: Stored,
    found: Findings,
    held: Sequence[PolicyException],
    database: Database,
    judged_by: str,
) -> int:
    """Write down what was found, and whom to tell, in one transaction."""
    now = datetime.now(UTC)
    with services.database.read() as session:
        build = builds.get(session, image.build_id)
    scanned = ScanEvidence.model_validate(build.evidence["scan"])
    limits = limits_of(policy, Recipe.model_validate_json(build.recipe))
    seen = [
        rejudged(one, limits, held, recipe=image.recipe_name, digest=image.digest, now=now)
        for one in found.vulnerabilities
    ]
    at_release = frozenset((one.id, one.package, one.installed) for one in scanned.findings.vulnerabilities)
    with services.database.write() as session:
        risen = findings.note(session, image, seen, at_release, database.identity.digest)
        passed = not any(one.above_policy for one in seen)
        findings.mark_scanned(session, image.digest, database.identity.digest, judged_by, passed=passed)
        if risen:
            announce_risen(session, services.settings.registry, image, risen)
    return len(risen)


def _judged_by(database: Database, policy: OrganisationPolicy, holding: Sequence[str]) -> str:
    """Of two rounds with the same answer here the second has nothing to do."""
    return digest_of("\n".join([database.identity.digest, policy.model_dump_json(), *sorted(holding)]).encode())


def _chunks(images: Sequence[Stored]) -> Iterator[Sequence[Stored]]:
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK]
