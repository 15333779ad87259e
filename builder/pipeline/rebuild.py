"""The rebuild stage: an image built again from its signed record, compared bit for bit, and the outcome attested.

It takes nothing from the database but the question: recipe, lock and materials come from the registry, each by a digest
that the provenance names. Its worker has an identity of its own, so trust need not rest on the worker that released.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.engine.docker import cache_reference
from builder.errors import Fault, Rejected, SettingsInvalid
from builder.image.digests import chunks_of
from builder.image.documents import EMPTY, MANIFEST, Descriptor, Manifest, parse_manifest
from builder.image.inventory import MEDIA_TYPE as INVENTORY
from builder.image.layer import Compression
from builder.image.layerreader import LayerInvalid, open_layer
from builder.pipeline.assembling import assemble
from builder.pipeline.composing import Composed
from builder.pipeline.evidence import Attestation, RebuildEvidence, kept
from builder.pipeline.journal import StepScope
from builder.pipeline.kept import KeptSource
from builder.pipeline.materials import Materials, read_materials
from builder.pipeline.patience import patiently
from builder.pipeline.preparing import prepare
from builder.pipeline.reproduction import alike_but_for_compression, compared, outcome, statement, told
from builder.pipeline.restoring import restored_base
from builder.pipeline.services import Services
from builder.pipeline.signed import NotRebuildable, SignedRecord, signed_record
from builder.pipeline.stage import Task
from builder.pipeline.staging import caches_within_limits, remove_leftovers, spool_of, take_back
from builder.pipeline.submission import refuse_forbidden_network
from builder.planning.agreement import refuse_stale
from builder.planning.mirrored import MirrorSource
from builder.planning.supply import Source, Supply
from builder.registry.artifact import BUNDLE, bundle_manifest
from builder.registry.attached import attached
from builder.registry.reference import Repository
from builder.signing.signer import SignedBundle
from builder.store import attachments, builds
from builder.store.attachments import Kind

_LOGGED_DIFFERENCES = 200
_TOLD_DIFFERENCES = 20


class NotReproduced(Rejected):
    """The image is still what was released and signed; that it follows from its record alone is not shown."""

    slug = "not-reproduced"
    title = "The rebuilt image differs"


class RebuildStage:
    def __init__(self, services: Services) -> None:
        self._services = services

    def work(self, task: Task) -> dict[str, Any]:
        with caches_within_limits(self._services):
            return self._work(task)

    def _work(self, task: Task) -> dict[str, Any]:
        services, started = self._services, datetime.now(UTC)
        remove_leftovers(services, task.build.id)
        digest = task.build.subject
        assert digest is not None, "every rebuild has one"
        repository = services.released(task.build.options["repository"])
        self._refuse_signers_identity()
        with task.journal.step("record") as step:
            found = services.registry.manifests.get(repository.at(digest))
            record = signed_record(services, services.registry, repository, digest)
            step.summary = f"provenance signed by {record.identity}"
        # From here on the recipe is the signed one.
        task = replace(task, recipe=record.recipe)
        refuse_forbidden_network(services, task.recipe)
        with spool_of(services, task.build.id) as spool:
            materials = self._materials(task, repository, record)
            supply = self._supply(task, repository)
            composed = self._rebuild(task, materials, repository, supply, spool)
            with task.journal.step("compare") as step:
                evidence = self._compare(composed, parse_manifest(found.data), digest, repository, record, spool)
                evidence = evidence.model_copy(update={"offline": _offline(task), "sources": supply.brought})
                step.summary = outcome(evidence)
                for line in told(evidence, _LOGGED_DIFFERENCES):
                    step.log(line)
                if not evidence.reproduced:
                    self._keep(task, evidence)
                    raise _not_reproduced(evidence)
        with task.journal.step("attest") as step:
            attestation = self._attest(task, step, found.descriptor(), repository, record, evidence, materials, started)
            mark = " (SANDBOX, not a real Sigstore)" if attestation.sandbox else ""
            step.summary = f"as {attestation.identity}, log index {attestation.log_index}{mark}"
        return {"rebuild": kept(evidence.model_copy(update={"attestation": attestation}))}

    def clean_up(self, build_id: str) -> None:
        self._services.engine.remove_leftovers(build_id)
        take_back(self._services, build_id)

    def _refuse_signers_identity(self) -> None:
        """Who released an image must not be who says that it reproduces."""
        settings = self._services.settings
        if settings.rebuilder_identity is None or settings.rebuilder_identity == settings.signer_identity:
            raise SettingsInvalid(
                "a rebuild worker needs an identity of its own",
                hint="set GOLDSMITH_REBUILDER_IDENTITY and GOLDSMITH_REBUILDER_ISSUER, other than the signer's",
            )

    def _materials(self, task: Task, repository: Repository, record: SignedRecord) -> Materials:
        if _offline(task) and task.recipe.spec.network_steps:
            raise NotRebuildable(
                "steps of the recipe have a network: the image cannot be rebuilt offline", hint="leave --offline out"
            )
        found = read_materials(self._services.registry, repository, record.materials_digest, record.lock_digest)
        refuse_stale(task.recipe, found.lock)
        return found

    def _supply(self, task: Task, repository: Repository) -> Supply:
        services = self._services
        sources: list[Source] = [KeptSource(services.registry, (repository,))]
        if not _offline(task):
            sources.append(MirrorSource(services.mirrors, task.watch.should_stop))
        return Supply(services.debs, sources, task.watch.check)

    def _rebuild(
        self, task: Task, materials: Materials, repository: Repository, supply: Supply, spool: Path
    ) -> Composed:
        services = self._services
        deadline = time.monotonic() + services.settings.build_seconds
        with restored_base(services, task, materials, repository, spool) as base:
            # Fresh: what a builder has left in the engine is what is to be checked.
            prepared = prepare(services, task, materials.lock, base, supply, spool, deadline, fresh=True)
            try:
                return assemble(services, task, prepared, spool, deadline)
            finally:
                if base is None:
                    services.engine.forget(cache_reference(task.build.id))

    def _compare(
        self,
        composed: Composed,
        original: Manifest,
        digest: str,
        repository: Repository,
        record: SignedRecord,
        spool: Path,
    ) -> RebuildEvidence:
        registry, golden = self._services.registry, spool / "golden.inventory"
        beside = attached(registry, repository, digest, INVENTORY).blobs
        blob = next((one for one in beside if one.digest == record.inventory_digest), None)
        if blob is None:
            raise NotRebuildable(f"{repository} does not hold the inventory {record.inventory_digest} of {digest}")
        registry.blobs.pull(repository, blob, golden)
        then = (record.provenance.build_definition.internal_parameters or {}).get("compression")
        compression = Compression.model_validate(then) if isinstance(then, dict) else None
        same = composed.manifest_digest == digest or self._same_layers(composed, original, repository, spool)
        return compared(composed, digest, original, golden, compression, diff_ids=same)

    def _same_layers(self, composed: Composed, original: Manifest, repository: Repository, spool: Path) -> bool:
        """Whether the original's own blobs unpack to the layers that were rebuilt, and nothing else differs."""
        if not alike_but_for_compression(original, composed.manifest):
            return False
        file = spool / "original.layer"
        for blob, diff_id in zip(original.layers, composed.diff_ids, strict=True):
            self._services.registry.blobs.pull(repository, blob, file)
            try:
                with open_layer(file, blob, diff_id) as tar:
                    for _ in chunks_of(tar):
                        pass
            except LayerInvalid:
                return False
        return True

    def _attest(
        self,
        task: Task,
        step: StepScope,
        image: Descriptor,
        repository: Repository,
        record: SignedRecord,
        evidence: RebuildEvidence,
        materials: Materials,
        started: datetime,
    ) -> Attestation:
        services, settings = self._services, self._services.settings
        says = statement(
            evidence,
            record,
            str(repository),
            builder_id=settings.builder_id,
            engine=services.engine.identity(),
            architecture=materials.lock.base.architecture,
            started=started,
        )
        signed = patiently(lambda: services.new_signer().sign(says), check=task.watch.check, told=step.log)
        expected = (settings.rebuilder_identity, settings.rebuilder_issuer)
        if (signed.identity, signed.issuer) != expected:
            raise SettingsInvalid(
                f"the certificate is for {signed.identity} of {signed.issuer}, not for the configured rebuilder",
                hint="GOLDSMITH_REBUILDER_IDENTITY and GOLDSMITH_REBUILDER_ISSUER say who rebuilds",
            )
        task.watch.check()
        return self._attach(task, repository, image, signed)

    def _attach(self, task: Task, repository: Repository, image: Descriptor, signed: SignedBundle) -> Attestation:
        registry = self._services.registry
        registry.blobs.push_bytes(repository, b"{}", EMPTY)
        blob = registry.blobs.push_bytes(repository, signed.bundle, BUNDLE)
        created = (signed.integrated_time or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
        subject = Descriptor(media_type=MANIFEST, digest=image.digest, size=image.size)
        manifest = bundle_manifest(subject, blob, predicate_type=signed.predicate_type, created=created)
        referrer = registry.referrers.attach(repository, manifest).digest
        with self._services.database.write() as session:
            build = builds.held_build(session, task.claim)
            attachments.attach(session, build.id, Kind.REPRODUCTION, BUNDLE, signed.bundle)
            attachments.set_referrers(session, build.id, {Kind.REPRODUCTION: referrer})
        return Attestation(
            identity=signed.identity,
            issuer=signed.issuer,
            log_index=signed.log_index,
            sandbox=signed.sandbox,
            referrer=referrer,
        )

    def _keep(self, task: Task, evidence: RebuildEvidence) -> None:
        """A difference is kept as carefully as a match."""
        with self._services.database.write() as session:
            build = builds.held_build(session, task.claim)
            build.evidence = {**build.evidence, "rebuild": kept(evidence)}


def _offline(task: Task) -> bool:
    return bool(task.build.options.get("offline"))


def _not_reproduced(evidence: RebuildEvidence) -> NotReproduced:
    faults = [
        Fault(field=one.path, message=f"{', '.join(one.kinds)} differs" + (f" ({one.package})" if one.package else ""))
        for one in evidence.differences[:_TOLD_DIFFERENCES]
    ]
    return NotReproduced(
        f"{evidence.image_digest} was rebuilt as {evidence.rebuilt_digest}: {outcome(evidence)}",
        errors=faults,
        hint="the build's log names each path; a recipe that reads the clock, a random source or the network differs",
    )
