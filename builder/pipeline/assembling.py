"""From what was prepared to a whole image on disk: the steps of a recipe in a container, and the canonical form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from builder.counted import counted
from builder.engine.assembly import Assembly
from builder.engine.claims import Claims, refuse_changed
from builder.engine.container import stream_of
from builder.engine.hardening import PACKAGE_MANAGER, Edit, described, hardening_edit
from builder.image.canonical import canonicalise
from builder.image.tarstream import Limits
from builder.pipeline.build_secrets import secrets_of
from builder.pipeline.composing import Composed, compose
from builder.pipeline.journal import StepScope
from builder.pipeline.preparing import Prepared
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.recipes.model import Hardening


def assemble(services: Services, task: Task, prepared: Prepared, spool: Path, deadline: float) -> Composed:
    """Raises what the recipe's steps, the engine and the canonical form raise."""
    spec, lock = task.recipe.spec, prepared.lock
    secrets = secrets_of(services, task)
    with services.engine.build_container(
        prepared.engine_image, task.build.id, spec.environment, secrets=bool(spec.secrets)
    ) as container:
        assembly = Assembly(
            container, lock.epoch, task.watch.check, deadline, partial(task.journal.add, "build"), spool, secrets
        )
        with _logged(task, assembly, "packages") as step:
            assembly.install(spec.packages, lock.packages, services.debs)
            step.summary = f"{counted(len(lock.packages), 'package')} installed, without network"
        claims = Claims.of_container(container) if spec.files or spec.run else None
        with _logged(task, assembly, "users") as step:
            assembly.add_users(spec.users)
            step.summary = f"{counted(len(spec.users), 'account')} added"
        with _logged(task, assembly, "files") as step:
            assembly.put_files(spec.files)
            step.summary = counted(len(spec.files), "file")
        with _logged(task, assembly, "run") as step:
            assembly.run(spec.run, spec.environment)
            with_network = len(spec.network_steps)
            reach = f"{with_network} WITH network: not hermetic" if with_network else "without network"
            given = f", secrets: {', '.join(spec.secrets)}" if spec.secrets else ""
            step.summary = f"{len(spec.run)} commands, {reach}{given}"
        with _logged(task, assembly, "harden") as step:
            edit = _harden(assembly, spec.hardening)
            step.summary = described(spec.hardening)
        with task.journal.step("canonicalise") as step:
            container.kill()
            exported = _watched(container.export(), task)
            if spec.secrets:
                exported = secrets.refused_in(exported)
            composed = _canonicalise(services, task, exported, prepared, edit, spool)
            if claims is not None:
                refuse_changed(claims, composed.claims)
            size = composed.layer.size if composed.layer else 0
            step.summary = (
                f"{composed.inventory.entries} paths, a layer of {size / 1e6:.1f} MB, {composed.manifest_digest}"
            )
    return composed


def _harden(assembly: Assembly, hardening: Hardening) -> Edit:
    """Accounts are hardened in the container, the rest where the tree is made canonical: answered is that edit."""
    if hardening.lock_passwords:
        assembly.lock_passwords()
    owned = assembly.files_of(PACKAGE_MANAGER) if hardening.remove_package_manager else []
    return hardening_edit(hardening, owned)


def _canonicalise(
    services: Services, task: Task, exported: Iterator[bytes], prepared: Prepared, edit: Edit, spool: Path
) -> Composed:
    with canonicalise(
        stream_of(exported),
        spool_dir=spool,
        epoch=prepared.lock.epoch,
        limits=Limits(max_bytes=services.settings.image_bytes),
        edit=edit,
    ) as tree:
        return compose(task.recipe, tree, prepared.base, prepared.lock.base.architecture, spool)


@contextmanager
def _logged(task: Task, assembly: Assembly, name: str) -> Iterator[StepScope]:
    with task.journal.step(name) as step:
        assembly.on_line = step.log
        yield step


def _watched(chunks: Iterator[bytes], task: Task) -> Iterator[bytes]:
    for chunk in chunks:
        task.watch.check()
        yield chunk
