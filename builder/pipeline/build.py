"""The build stage: recipe to lock, to container, to canonical image, staged by digest and tested."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from builder.counted import counted
from builder.engine.trial import TestResult, run_tests
from builder.image import inventory as inventory_format
from builder.image.documents import Descriptor
from builder.image.layer import Compression
from builder.pipeline.assembling import assemble
from builder.pipeline.composing import Composed
from builder.pipeline.demanded import assembled_again, demands_on, updates_pending
from builder.pipeline.evidence import BuildEvidence, StagedImage, Unchanged, kept
from builder.pipeline.kept import KeptSource
from builder.pipeline.materials import attach_materials, keep_blobs, materials_manifest
from builder.pipeline.preparing import Prepared, prepare
from builder.pipeline.resolving import locked_or_resolved
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.staging import caches_within_limits, remove_leftovers, spool_of, staging_of, take_back
from builder.pipeline.submission import refuse_forbidden_network
from builder.pipeline.unchanged import released_before
from builder.planning.keys import build_key
from builder.planning.mirrored import MirrorSource
from builder.planning.supply import Supply
from builder.store import attachments, builds
from builder.store.attachments import Kind
from builder.store.schema import Release


class BuildStage:
    """`work` is the stage; `clean_up` takes back what a failed one left outside the database."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def work(self, task: Task) -> dict[str, Any]:
        with caches_within_limits(self._services):
            return self._work(task)

    def _work(self, task: Task) -> dict[str, Any]:
        services = self._services
        deadline = time.monotonic() + services.settings.build_seconds
        remove_leftovers(services, task.build.id)
        refuse_forbidden_network(services, task.recipe)
        demands = demands_on(services, task)
        with spool_of(services, task.build.id) as spool:
            resolution = locked_or_resolved(services, task, spool)
            key = build_key(task.build.recipe_digest, resolution.lock)
            if task.recipe.spec.hermetic and not task.build.options.get("force"):
                before = released_before(services, key, task.recipe)
                if before is not None:
                    with task.journal.step("unchanged") as step:
                        step.summary = f"the same inputs were released by build {before.build_id} as {before.digest}"
                    return self._answered_by(before)
            prepared = prepare(services, task, resolution.lock, resolution.base, self._supply(task), spool, deadline)
            # While dpkg works, the registry takes in what it works with.
            with ThreadPoolExecutor(1, thread_name_prefix="materials") as beside:
                materials = beside.submit(self._keep_materials, task, prepared)
                composed = assemble(services, task, prepared, spool, deadline)
                updates = updates_pending(services, task, composed, prepared) if demands.updates else None
                reproduced = (
                    assembled_again(services, task, composed, prepared, self._supply(task), spool, deadline)
                    if demands.reproducible
                    else None
                )
                with task.journal.step("stage") as step:
                    materials_digest = self._stage(task, composed, prepared, materials, spool)
                    step.summary = f"pushed by digest to {services.staging(task.recipe.spec.publish.repository)}"
        with task.journal.step("test") as step:
            results = self._test(task, composed.manifest_digest, deadline, step.log)
            step.summary = f"{counted(len(results), 'test')} passed" if results else "the recipe has no tests"
        evidence = BuildEvidence(
            lock=prepared.lock,
            lock_digest=prepared.lock.digest,
            lock_given=task.lock is not None,
            build_key=key,
            materials_digest=materials_digest,
            image=_staged(composed, prepared.lock.base.architecture),
            tests=tuple(results),
            engine=services.engine.identity(),
            hermetic=task.recipe.spec.hermetic,
            accounts=composed.accounts,
            base_epoch=prepared.base_epoch,
            updates=updates,
            reproduced=reproduced,
        )
        return {"build": kept(evidence)}

    def clean_up(self, build_id: str) -> None:
        self._services.engine.remove_leftovers(build_id)
        take_back(self._services, build_id)

    def _answered_by(self, release: Release) -> dict[str, Any]:
        """What is known of the release is known of this build, which is told to be no other."""
        with self._services.database.read() as session:
            evidence = builds.get(session, release.build_id).evidence
        return {**evidence, "unchanged": kept(Unchanged(build_id=release.build_id, digest=release.digest))}

    def _supply(self, task: Task) -> Supply:
        services, repository = self._services, task.recipe.spec.publish.repository
        kept_source = KeptSource(services.registry, (services.staging(repository), services.released(repository)))
        mirror = MirrorSource(services.mirrors, task.watch.should_stop)
        return Supply(services.debs, (kept_source, mirror), task.watch.check)

    def _keep_materials(self, task: Task, prepared: Prepared) -> tuple[Descriptor, ...]:
        services = self._services
        target = services.staging(task.recipe.spec.publish.repository)
        return keep_blobs(services.registry, target, task.recipe, prepared.lock, prepared.base, services.debs)

    def _stage(
        self,
        task: Task,
        composed: Composed,
        prepared: Prepared,
        materials: Future[tuple[Descriptor, ...]],
        spool: Path,
    ) -> str:
        """Push the image, its materials beside it. Answers the digest of the materials."""
        services, repository = self._services, task.recipe.spec.publish.repository
        inventory = composed.inventory.path.read_bytes()
        if task.build.image_digest not in (None, composed.manifest_digest):
            take_back(services, task.build.id)  # of an attempt before, which came to another image
        # Noted before the first manifest is sent, so that whatever fails next, somebody knows what to remove.
        with (
            staging_of(services, repository, composed.manifest_digest),
            services.database.write() as session,
        ):
            build = builds.held_build(session, task.claim)
            build.image_digest = composed.manifest_digest
            build.staging_repository = repository
            attachments.attach(session, build.id, Kind.INVENTORY, inventory_format.MEDIA_TYPE, inventory)
        target = services.staging(repository)
        if prepared.base is not None:
            for layer in prepared.base.manifest.layers:
                services.registry.images.copy_blob(prepared.base.repository, layer, target, spool)
        image = services.registry.images.push(target, composed.manifest, composed.blobs)
        with services.database.write() as session:
            builds.announce_staged(session, builds.held_build(session, task.claim))
        manifest = materials_manifest(image, materials.result())
        return attach_materials(services.registry, target, manifest).digest

    def _test(self, task: Task, digest: str, deadline: float, log: Callable[[str], None]) -> list[TestResult]:
        services, engine, spec = self._services, self._services.engine, task.recipe.spec
        if not spec.tests:
            return []
        reference = str(services.staging(spec.publish.repository).at(digest))
        image = services.bases.pull(reference)
        try:
            return run_tests(
                engine, image, task.build.id, spec.tests, check=task.watch.check, deadline=deadline, on_line=log
            )
        finally:
            engine.forget(reference)


def _staged(composed: Composed, architecture: str) -> StagedImage:
    manifest, inventory = composed.manifest, composed.inventory
    return StagedImage(
        manifest_digest=composed.manifest_digest,
        manifest_size=len(manifest.to_bytes()),
        config_digest=manifest.config.digest,
        layers=tuple(layer.digest for layer in manifest.layers),
        diff_ids=composed.diff_ids,
        compression=composed.layer.compression if composed.layer else Compression(),
        compressed_size=sum(layer.size for layer in manifest.layers),
        inventory_digest=inventory.digest,
        inventory_root=inventory.root,
        paths=inventory.entries,
        packages=composed.packages,
        architecture=architecture,
    )
