"""What a policy demands of the build worker itself: only where it is asked for, for both take time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from builder.engine.claims import parse_status
from builder.engine.docker import cache_reference
from builder.errors import GoldsmithError, Unavailable
from builder.pipeline.assembling import assemble
from builder.pipeline.composing import Composed
from builder.pipeline.journal import Journal, StepScope
from builder.pipeline.preparing import Prepared, prepare
from builder.pipeline.reproduction import compared, outcome, told
from builder.pipeline.resolving import SuiteUnclear, archive_of, suite_of
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.planning.apt import SuiteUnknown
from builder.planning.supply import Supply
from builder.planning.updates import pending_updates
from builder.policy.demands import Demands
from builder.policy.effective import effective
from builder.policy.facts import Update

_LOGGED = 50


def demands_on(services: Services, task: Task) -> Demands:
    """What the organisation and the recipe demand together. Raises SettingsInvalid."""
    recipe = task.recipe
    return effective(services.policy, recipe.metadata.name, recipe.spec.policy).demands


def updates_pending(
    services: Services, task: Task, composed: Composed, prepared: Prepared
) -> tuple[Update, ...] | None:
    """What the archive has newer than the image; None where nobody can tell, and the step says why."""
    base, debian = prepared.lock.base, task.recipe.spec.base.debian
    with task.journal.step("updates") as step:
        names = [name for name, _, _ in parse_status(composed.claims.status)]
        if not names:
            step.summary = "undetermined: the image has no /var/lib/dpkg/status that says what is installed"
            return None
        try:
            # A recipe that adds no package has asked no archive yet.
            suite = base.suite or (suite_of(services, task, prepared.base) if prepared.base else "")
            archive = archive_of(services, task, suite, debian.components if debian else ["main"], base.architecture)
            found = pending_updates(archive, names, status=composed.claims.status)
        except (Unavailable, SuiteUnclear, SuiteUnknown) as error:
            step.summary = f"undetermined: {error.detail}"
            return None
        for one in found:
            step.log(f"{one.package} {one.installed} -> {one.available}{' (security)' if one.security else ''}")
        security = sum(one.security for one in found)
        step.summary = f"{len(found)} pending, {security} of them security updates"
        return tuple(
            Update(package=one.package, installed=one.installed, available=one.available, security=one.security)
            for one in found
        )


def assembled_again(
    services: Services,
    task: Task,
    first: Composed,
    prepared: Prepared,
    supply: Supply,
    spool: Path,
    deadline: float,
) -> bool:
    """Whether a second assembly, bootstrap included, gives the same manifest. Its steps are lines of one step's log."""
    with task.journal.step("reproduce") as step, _directory(spool / "again") as work:
        inner = replace(task, journal=_WithinStep(step))
        try:
            fresh = prepare(services, inner, prepared.lock, prepared.base, supply, work, deadline, fresh=True)
            second = assemble(services, inner, fresh, work, deadline)
        except GoldsmithError as error:
            step.log(f"the second assembly failed where the first did not: {error.detail}")
            raise
        finally:
            if prepared.base is None:
                services.engine.forget(cache_reference(task.build.id))
        same = second.manifest_digest == first.manifest_digest
        compression = first.layer.compression if first.layer else None
        evidence = compared(
            second, first.manifest_digest, first.manifest, first.inventory.path, compression, diff_ids=same
        )
        for line in told(evidence, _LOGGED):
            step.log(line)
        step.summary = f"a second assembly: {outcome(evidence)}"
        return same


class _WithinStep(Journal):
    """What would be steps are lines of one step."""

    def __init__(self, step: StepScope) -> None:
        self._step = step

    @contextmanager
    def step(self, name: str) -> Iterator[StepScope]:
        scope = StepScope(self, name)
        yield scope
        scope.log(scope.summary)

    def add(self, step: str, text: str) -> None:
        self._step.log(f"{step}: {text}")


@contextmanager
def _directory(path: Path) -> Iterator[Path]:
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
