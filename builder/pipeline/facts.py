"""What the gate judges by, gathered from the scan, the build worker's evidence, the inventory and the config."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from builder.errors import Broken
from builder.image.documents import MAX_DOCUMENT, ImageConfig, parse_config, parse_manifest
from builder.image.inventory import open_inventory
from builder.pipeline.evidence import BuildEvidence
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.policy.facts import Account, BaseFacts, Facts, Files, ImageFacts, RanTest
from builder.policy.filesystem import files_of
from builder.scanning.findings import OS_PACKAGES, ScanResult
from builder.store import attachments
from builder.store.attachments import Kind


def gather(services: Services, task: Task, built: BuildEvidence, scanned: ScanResult) -> Facts:
    """Raises Broken without an inventory, InventoryInvalid, DocumentInvalid, and what the registry raises."""
    spec, lock = task.recipe.spec, built.lock
    return Facts(
        gathered_at=datetime.now(UTC),
        reference=scanned.reference,
        recipe=task.recipe.metadata.name,
        scanner=scanned.scanner,
        database=scanned.database,
        operating_system=scanned.operating_system,
        covered=scanned.covered,
        findings=scanned.findings,
        packages=scanned.packages,
        packages_seen=_seen(scanned, built),
        packages_expected=_packages(built),
        image=_image(_config(services, task, built), built),
        files=_files(services, task),
        accounts=built.accounts,
        base=BaseFacts(
            recipe=lock.base.recipe,
            image=None if lock.base.recipe else lock.base.image,
            digest=lock.base.image_digest,
            suite=lock.base.suite,
            created=_moment(built.base_epoch),
        ),
        kept_setuid=tuple(spec.hardening.keep_setuid),
        lock_epoch=lock.epoch,
        updates=built.updates,
        tests=tuple(RanTest(name=one.name, passed=one.passed) for one in built.tests),
        hermetic=built.hermetic,
        reproduced=built.reproduced,
    )


def _seen(scanned: ScanResult, built: BuildEvidence) -> int:
    """Where dpkg lists packages, those alone that the scanner calls the distribution's: no other makes up for one."""
    if not _packages(built):
        return scanned.package_count
    return sum(one.target_class == OS_PACKAGES for one in scanned.packages)


def _packages(built: BuildEvidence) -> int:
    """How many packages the scanner must see at the least: what dpkg lists, and never fewer than were installed."""
    return max(built.image.packages, len(built.lock.base.packages) + len(built.lock.packages))


def _config(services: Services, task: Task, built: BuildEvidence) -> ImageConfig:
    staged = services.staging(task.recipe.spec.publish.repository)
    manifest = parse_manifest(services.registry.manifests.get(staged.at(built.image.manifest_digest)).data)
    return parse_config(services.registry.blobs.fetch(staged, manifest.config, limit=MAX_DOCUMENT))


def _image(config: ImageConfig, built: BuildEvidence) -> ImageFacts:
    runtime = config.config
    return ImageFacts(
        architecture=config.architecture,
        created=datetime.fromisoformat(config.created) if config.created else None,
        user=runtime.user,
        uid=uid_of(runtime.user or "", built.accounts),
        ports=tuple(runtime.exposed_ports or ()),
        volumes=tuple(runtime.volumes or ()),
        entrypoint=(runtime.entrypoint or (None,))[0],
        # Behind an entrypoint the command is its arguments, which may be secret.
        command=None if runtime.entrypoint else (runtime.cmd or (None,))[0],
        healthcheck=runtime.healthcheck is not None and runtime.healthcheck.probes,
        labels=tuple(runtime.labels or ()),
        environment=tuple(pair.partition("=")[0] for pair in runtime.env or ()),
        layers=len(built.image.layers),
        compressed_bytes=built.image.compressed_size,
    )


def uid_of(user: str, accounts: tuple[Account, ...] | None) -> int | None:
    """Whom an engine would start as: nobody said is root; else the first account of that name or number, for a name
    may look like a number; else the number itself. None where nobody knows, nor the accounts."""
    name = user.partition(":")[0]
    if not name:
        return 0
    if accounts is None:
        return None
    number = int(name) if name.isascii() and name.isdecimal() and len(name) <= 10 else None
    return next((one.uid for one in accounts if one.name == name or one.uid == number), number)


def _files(services: Services, task: Task) -> Files:
    with services.database.read() as session:
        found = attachments.find(session, task.build.id, Kind.INVENTORY)
        if found is None:
            raise Broken(f"build {task.build.id} has no inventory to judge")
        content = attachments.content(session, found)
    with tempfile.NamedTemporaryFile(dir=services.spool, prefix=f"{task.build.id}-") as file:
        file.write(content)
        file.flush()
        with open_inventory(Path(file.name)) as (_, records):
            return files_of(records)


def _moment(epoch: int | None) -> datetime | None:
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC)
