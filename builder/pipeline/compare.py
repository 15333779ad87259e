"""The compare stage: a subject that somebody named or sent, held against a golden image, and the outcome recorded.

What was sent is untrusted: it is read within limits by a worker without an engine and without a signing identity, and
never extracted. The verdict decides nothing here; a build fails only if it could not compare.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.errors import GoldsmithError
from builder.forensics.comparison import GoldenImage, compare_subject
from builder.forensics.golden import NotCompared
from builder.forensics.report import MEDIA_TYPE, Report
from builder.forensics.rules import load_rules
from builder.forensics.subjects.archive import ArchiveSubject
from builder.forensics.subjects.bounds import Bounds
from builder.forensics.subjects.image import ImageSubject
from builder.forensics.subjects.listed import InventorySubject
from builder.forensics.subjects.subject import Subject, SubjectKind
from builder.image.digests import digest_of_file
from builder.image.tarstream import Limits
from builder.ledger.comparison import ComparisonRecord
from builder.ledger.record import append
from builder.pipeline.comparing import subject_of
from builder.pipeline.evidence import ComparedSubject, ComparisonEvidence, kept
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.staging import spool_of, take_back
from builder.pipeline.uploads import fetch_upload
from builder.pipeline.verified import fetch_inventory, verified_golden
from builder.registry.errors import BlobUnknown
from builder.registry.reference import parse_reference
from builder.store import attachments, builds
from builder.store.attachments import Kind

_MOST_REPORTED = 16 * 1024 * 1024
_LOGGED_FINDINGS = 100

log = logging.getLogger("goldsmith")


class CompareStage:
    def __init__(self, services: Services) -> None:
        self._services = services

    def work(self, task: Task) -> dict[str, Any]:
        recorded = task.build.evidence.get("comparison")
        evidence = recorded or kept(self._compared(task))
        try:
            take_back(self._services, task.build.id)
        except GoldsmithError as error:
            log.warning("build %s: left behind for the dispatcher to remove: %s", task.build.id, error)
        return {"comparison": evidence}

    def clean_up(self, build_id: str) -> None:
        take_back(self._services, build_id)

    def _compared(self, task: Task) -> ComparisonEvidence:
        services, asked = self._services, subject_of(task.build)
        assert task.build.subject is not None, "every comparison has a golden image"
        repository = services.released(task.build.options["repository"])
        with spool_of(services, task.build.id) as spool:
            inventory = spool / "golden.inventory"
            with task.journal.step("verify") as step:
                golden = verified_golden(services, repository, task.build.subject)
                fetch_inventory(services, repository, golden, inventory)
                mark = " (SANDBOX, not a real Sigstore)" if golden.verified.sandbox else ""
                step.summary = f"provenance signed by {golden.verified.identity}{mark}"
            with task.journal.step("fetch") as step:
                subject = self._subject(asked, spool, Bounds(self._limits(), self._stopping(task)))
                step.summary = f"{asked.kind} {asked.digest}"
            with task.journal.step("compare") as step:
                report = self._compare(golden, inventory, subject, spool)
                for finding in report.findings[:_LOGGED_FINDINGS]:
                    step.log(f"{finding.severity}: {finding.path}: {', '.join(finding.kinds)} [{finding.rule}]")
                step.summary = f"{report.subject.entries} paths: {report.headline}"
            with task.journal.step("record") as step:
                evidence = self._record(task, asked, report)
                step.summary = f"report {evidence.report_digest}, record {evidence.record}"
        return evidence

    def _limits(self) -> Limits:
        return Limits(max_bytes=self._services.settings.image_bytes)

    def _stopping(self, task: Task) -> Callable[[], None]:
        seconds = self._services.settings.build_seconds
        deadline = time.monotonic() + seconds

        def check() -> None:
            task.watch.check()
            if time.monotonic() > deadline:
                raise NotCompared(f"reading the subject took longer than the {seconds} seconds that are allowed")

        return check

    def _subject(self, asked: ComparedSubject, spool: Path, bounds: Bounds) -> Subject:
        """What is to be compared, under the name that its uploader gave it: no report tells of a worker's files."""
        if asked.kind is SubjectKind.IMAGE:
            return self._image(asked, spool, bounds)
        file = spool / "upload"
        try:
            fetch_upload(self._services, asked, file)
        except BlobUnknown as error:
            raise NotCompared("the upload is no longer in the registry", hint="send it again") from error
        subject: ArchiveSubject | InventorySubject
        if asked.kind is SubjectKind.INVENTORY:
            subject = InventorySubject(file, bounds)
        else:
            subject = ArchiveSubject(file, bounds)
        own = subject.described.name
        subject.described = replace(
            subject.described, name=asked.name or (own if own != str(file) else f"the uploaded {asked.kind}")
        )
        return subject

    def _image(self, asked: ComparedSubject, spool: Path, bounds: Bounds) -> ImageSubject:
        services = self._services
        assert asked.name is not None, "every image has a reference"
        reference = parse_reference(asked.name).repository.at(asked.digest)
        image = services.registry.images.pull(reference, spool / "layout", limit=bounds.limits.max_bytes)
        return ImageSubject(image, SubjectKind.IMAGE, asked.name, bounds)

    def _compare(self, golden: GoldenImage, inventory: Path, subject: Subject, spool: Path) -> Report:
        own = self._services.settings.comparison_rules
        report = compare_subject(
            golden,
            inventory,
            subject,
            load_rules(own),
            directory=spool,
            rules_digest=digest_of_file(own) if own is not None else None,
        ).report
        return _fitting(report)

    def _record(self, task: Task, asked: ComparedSubject, report: Report) -> ComparisonEvidence:
        """Report, ledger and evidence in one transaction, and only while the claim holds."""
        with self._services.database.write() as session:
            build = builds.held_build(session, task.claim)
            digest = attachments.attach(
                session, build.id, Kind.COMPARISON, MEDIA_TYPE, report.json_text().encode("ascii")
            )
            record = ComparisonRecord(
                build_id=build.id,
                image_digest=report.golden.digest,
                inventory_digest=report.golden.inventory_digest,
                subject=kept(asked),
                requester=build.requester,
                requested=build.created_at,
                started=report.times.started.timestamp(),
                finished=report.times.finished.timestamp(),
                recorded=datetime.now(UTC).timestamp(),
                verdict=str(report.verdict),
                complete=report.complete,
                totals=report.totals.model_dump(mode="json", by_alias=True),
                rules=report.rules,
                report_digest=digest,
            )
            evidence = ComparisonEvidence(
                verdict=report.verdict,
                complete=report.complete,
                name=report.subject.name,
                totals=report.totals,
                inventory_digest=report.golden.inventory_digest,
                report_digest=digest,
                record=append(session, record),
            )
            build.evidence = {**build.evidence, "comparison": kept(evidence)}
        return evidence


def _fitting(report: Report) -> Report:
    """The report, with fewer findings listed if it were too large to keep; totals are of all. Raises NotCompared."""
    while len(report.json_text()) > _MOST_REPORTED:
        if not report.findings and not report.expected:
            raise NotCompared(f"the report would be larger than {_MOST_REPORTED} bytes")
        report = report.model_copy(
            update={
                "findings": report.findings[: len(report.findings) // 2],
                "expected": report.expected[: len(report.expected) // 2],
            }
        )
    return report
