"""The build stage: recipe to lock, to container, to canonical image, staged by digest and tested."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from builder.engine.assembly import Assembly
from builder.engine.container import Container, stream_of
from builder.engine.hardening import PACKAGE_MANAGER, Edit, described, hardening_edit
from builder.engine.trial import TestResult, run_tests
from builder.image import inventory as inventory_format
from builder.image.canonical import canonicalise
from builder.image.layer import Compression
from builder.image.tarstream import Limits
from builder.pipeline.composing import Composed, compose
from builder.pipeline.evidence import BuildEvidence, StagedImage, kept
from builder.pipeline.journal import StepScope
from builder.pipeline.preparing import Prepared, prepare
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.staging import remove_leftovers, spool_of, take_back
from builder.recipes.model import Hardening
from builder.store import attachments, builds
from builder.store.attachments import Kind


class BuildStage:
    """`work` is the stage; `clean_up` takes back what a failed one left outside the database."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def work(self, task: Task) -> dict[str, Any]:
        services = self._services
        deadline = time.monotonic() + services.settings.build_seconds
        remove_leftovers(services, task.build.id)
        with spool_of(services, task.build.id) as spool:
            prepared = prepare(services, task, spool, deadline)
            composed = self._build(task, prepared, spool, deadline)
            with task.journal.step("stage") as step:
                self._stage(task, composed, prepared, spool)
                step.summary = f"pushed by digest to {services.staging(task.recipe.spec.publish.repository)}"
        with task.journal.step("test") as step:
            results = self._test(task, composed.manifest_digest, deadline, step.log)
            step.summary = f"{len(results)} tests passed" if results else "the recipe has no tests"
        evidence = BuildEvidence(
            lock=prepared.lock,
            image=_staged(composed, prepared.lock.base.architecture),
            tests=tuple(results),
            engine=services.engine.identity(),
            hermetic=True,
        )
        return {"build": kept(evidence)}

    def clean_up(self, build_id: str) -> None:
        self._services.engine.remove_leftovers(build_id)
        take_back(self._services, build_id)

    def _build(self, task: Task, prepared: Prepared, spool: Path, deadline: float) -> Composed:
        spec, lock = task.recipe.spec, prepared.lock
        with self._services.engine.build_container(prepared.engine_image, task.build.id, spec.environment) as container:
            assembly = Assembly(
                container, lock.epoch, task.watch.check, deadline, partial(task.journal.add, "build"), spool
            )
            with _logged(task, assembly, "packages") as step:
                assembly.install(spec.packages, lock.packages, self._services.debs)
                step.summary = f"{len(lock.packages)} packages installed, without network"
            with _logged(task, assembly, "users") as step:
                assembly.add_users(spec.users)
                step.summary = f"{len(spec.users)} accounts added"
            with _logged(task, assembly, "files") as step:
                assembly.put_files(spec.files)
                step.summary = f"{len(spec.files)} files"
            with _logged(task, assembly, "run") as step:
                assembly.run(spec.run, spec.environment)
                step.summary = f"{len(spec.run)} commands, without network"
            with _logged(task, assembly, "harden") as step:
                edit = self._harden(assembly, spec.hardening)
                step.summary = described(spec.hardening)
            with task.journal.step("canonicalise") as step:
                composed = self._canonicalise(task, container, prepared, edit, spool)
                size = composed.layer.size if composed.layer else 0
                step.summary = (
                    f"{composed.inventory.entries} paths, a layer of {size / 1e6:.1f} MB, {composed.manifest_digest}"
                )
        return composed

    def _harden(self, assembly: Assembly, hardening: Hardening) -> Edit:
        """Accounts are hardened in the container, the rest where the tree is made canonical: answered is that edit."""
        if hardening.lock_passwords:
            assembly.lock_passwords()
        owned = assembly.files_of(PACKAGE_MANAGER) if hardening.remove_package_manager else []
        return hardening_edit(hardening, owned)

    def _canonicalise(self, task: Task, container: Container, prepared: Prepared, edit: Edit, spool: Path) -> Composed:
        container.kill()
        with canonicalise(
            stream_of(_watched(container.export(), task)),
            spool_dir=spool,
            epoch=prepared.lock.epoch,
            limits=Limits(max_bytes=self._services.settings.image_bytes),
            edit=edit,
        ) as tree:
            return compose(task.recipe, tree, prepared.base, prepared.lock.base.architecture, spool)

    def _stage(self, task: Task, composed: Composed, prepared: Prepared, spool: Path) -> None:
        services, repository = self._services, task.recipe.spec.publish.repository
        inventory = composed.inventory.path.read_bytes()
        # Noted before the first byte is sent, so that whatever fails next, somebody knows what to remove.
        with services.database.write() as session:
            build = builds.held_build(session, task.claim)
            build.image_digest = composed.manifest_digest
            build.staging_repository = repository
            attachments.attach(session, build.id, Kind.INVENTORY, inventory_format.MEDIA_TYPE, inventory)
        target = services.staging(repository)
        if prepared.base is not None:
            for layer in prepared.base.manifest.layers:
                services.registry.images.copy_blob(prepared.base.repository, layer, target, spool)
        services.registry.images.push(target, composed.manifest, composed.blobs)

    def _test(self, task: Task, digest: str, deadline: float, log: Callable[[str], None]) -> list[TestResult]:
        engine, spec = self._services.engine, task.recipe.spec
        if not spec.tests:
            return []
        reference = str(self._services.staging(spec.publish.repository).at(digest))
        image = engine.pull(reference)
        try:
            return run_tests(
                engine, image, task.build.id, spec.tests, check=task.watch.check, deadline=deadline, on_line=log
            )
        finally:
            engine.forget(reference)


@contextmanager
def _logged(task: Task, assembly: Assembly, name: str) -> Iterator[StepScope]:
    with task.journal.step(name) as step:
        assembly.on_line = step.log
        yield step


def _watched(chunks: Iterator[bytes], task: Task) -> Iterator[bytes]:
    for chunk in chunks:
        task.watch.check()
        yield chunk


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
