"""The release stage: sign, publish by digest, record, and tag last. Before the tags nobody has been told anything."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from builder.counted import counted
from builder.errors import Broken, Cancelled, GoldsmithError
from builder.image.digests import digest_of
from builder.image.documents import EMPTY, MANIFEST, Descriptor
from builder.ledger.record import RecordedStep, ReleaseRecord, append
from builder.pipeline.evidence import BuildEvidence, ReleaseEvidence, kept
from builder.pipeline.indexing import index_release
from builder.pipeline.materials import copy_materials
from builder.pipeline.services import Services
from builder.pipeline.signing import beside_image, sign_release
from builder.pipeline.stage import Task
from builder.pipeline.staging import spool_of, take_back
from builder.registry.artifact import BUNDLE, artifact_manifest, bundle_manifest
from builder.registry.reference import Repository
from builder.signing.signer import SignedBundle
from builder.store import attachments, builds, journal, releases
from builder.store.attachments import Kind
from builder.store.schema import Release

_UPLOADS = 4


class ReleaseStage:
    def __init__(self, services: Services) -> None:
        self._services = services

    def work(self, task: Task) -> dict[str, Any]:
        spec = task.recipe.spec
        built = BuildEvidence.model_validate(task.build.evidence["build"])
        if not built.materials_digest:
            raise Broken("the build is of a version that kept no materials", hint="build again")
        image = Descriptor(media_type=MANIFEST, digest=built.image.manifest_digest, size=built.image.manifest_size)
        target = self._services.released(spec.publish.repository)
        evidence = self._recorded(task)
        if evidence is None:
            evidence = self._release(task, image, built.materials_digest, target)
        with task.journal.step("tag") as step:
            step.summary = ", ".join(self._tag(task, target)) or "a newer release has the tags"
        with suppress(GoldsmithError):  # what stays in staging, the dispatcher removes
            take_back(self._services, task.build.id)
        return {"release": kept(evidence)}

    def clean_up(self, build_id: str) -> None:
        take_back(self._services, build_id)

    def _release(self, task: Task, image: Descriptor, materials_digest: str, target: Repository) -> ReleaseEvidence:
        services, publish = self._services, task.recipe.spec.publish
        _ = services.ledger_key  # without one nobody could sign what is recorded: no release begins
        source = services.staging(publish.repository)
        with task.journal.step("sign") as step:
            # As it was scanned, and what it can be rebuilt from, or nothing is signed.
            for digest in (image.digest, materials_digest):
                services.registry.images.verify(source, digest, task.watch.check)
            bundles = sign_release(services, task, step, image, target)
            signed = bundles[Kind.PROVENANCE]
            mark = " (SANDBOX, not a real Sigstore)" if signed.sandbox else ""
            step.summary = f"{', '.join(bundles)} as {signed.identity}, log index {signed.log_index}{mark}"
        task.watch.check()
        with task.journal.step("publish") as step:
            with spool_of(services, task.build.id) as spool:
                services.registry.images.copy(source, image.digest, target, spool_dir=spool)
                materials = copy_materials(services.registry, source, materials_digest, target, spool)
            referrers = {"materials": materials.digest, **self._attach(task, image, target, bundles)}
            step.summary = f"{target}@{image.digest}, {counted(len(referrers), 'referrer')}"
        evidence = ReleaseEvidence(
            identity=signed.identity,
            issuer=signed.issuer,
            log_index=signed.log_index,
            sandbox=signed.sandbox,
            repository=publish.repository,
            tags=tuple(publish.tags),
            provenance_digest=digest_of(signed.bundle),
            referrers=referrers,
            attestations={one.predicate_type: digest_of(one.bundle) for one in bundles.values()},
        )
        with task.journal.step("record") as step:
            number = self._record(task, image.digest, evidence)
            step.summary = f"record {number}"
        return evidence

    def _attach(
        self, task: Task, image: Descriptor, target: Repository, bundles: Mapping[Kind, SignedBundle]
    ) -> dict[str, str]:
        """Attach the bundles and what stands beside the image. Answers the referrers' digests by kind."""
        registry = self._services.registry
        task.watch.check()
        registry.blobs.push_bytes(target, b"{}", EMPTY)  # the config of every artifact
        content = {
            **{kind: (BUNDLE, one.bundle) for kind, one in bundles.items()},
            **beside_image(self._services, task),
        }
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="referrers") as pool:
            pushed = pool.map(lambda one: registry.blobs.push_bytes(target, one[1], one[0]), content.values())
            blobs = dict(zip(content, pushed, strict=True))
        artifacts = [
            bundle_manifest(image, blob, predicate_type=bundles[kind].predicate_type, created=_created(bundles[kind]))
            if kind in bundles
            else artifact_manifest(image, blob, artifact_type=blob.media_type)
            for kind, blob in blobs.items()
        ]
        referrers = {str(kind): one.descriptor().digest for kind, one in zip(blobs, artifacts, strict=True)}
        # Noted before they are attached, so that whatever fails next, somebody knows which of an image's are ours.
        with self._services.database.write() as session:
            builds.held_build(session, task.claim)
            attachments.set_referrers(session, task.build.id, referrers)
        registry.referrers.attach_all(target, artifacts)
        return referrers

    def _record(self, task: Task, digest: str, evidence: ReleaseEvidence) -> int:
        """Ledger, release and evidence in one transaction, and only while the claim holds."""
        with self._services.database.write() as session:
            build = builds.held_build(session, task.claim)
            if build.cancel_requested:  # whoever asked was told that it will end
                raise Cancelled("the build was cancelled on request")
            steps = [
                RecordedStep(
                    name=step.name,
                    state=step.state,
                    attempt=step.attempt,
                    started=step.started_at,
                    finished=step.finished_at,
                    summary=step.summary,
                )
                for step in journal.steps_of(session, build.id)
                if step.finished_at is not None
            ]
            record = ReleaseRecord(
                build_id=build.id,
                image_digest=digest,
                requester=build.requester,
                requested=build.created_at,
                recipe=json.loads(build.recipe),
                recipe_digest=build.recipe_digest,
                attempt=build.attempt,
                steps=steps,
                build=build.evidence["build"],
                scan=build.evidence["scan"],
                release=kept(evidence),
                bundles=evidence.attestations,
                parameters=build.options.get("parameters"),
                source=build.options.get("source"),
            )
            session.add(
                Release(
                    build_id=build.id,
                    digest=digest,
                    recipe_name=build.recipe_name,
                    recipe_digest=build.recipe_digest,
                    registry_host=self._services.settings.registry,
                    repository=evidence.repository,
                    tags=list(evidence.tags),
                    released_at=time.time(),
                    build_key=build.evidence["build"]["build_key"],
                    requester=build.requester,
                )
            )
            session.flush()
            index_release(session, session.get_one(Release, build.id), build.evidence["scan"])
            build.evidence = {**build.evidence, "release": kept(evidence)}
            return append(session, record)

    def _recorded(self, task: Task) -> ReleaseEvidence | None:
        """What a worker that was lost after recording has left: the release goes on from there, not anew."""
        kept_before = task.build.evidence.get("release")
        return ReleaseEvidence.model_validate(kept_before) if kept_before else None

    def _tag(self, task: Task, target: Repository) -> list[str]:
        """Point the tags at the images that they belong to. Answers those that are this release's.

        A registry cannot tell a late write from a newer one. So whoever has written looks again, until what it wrote
        last is still right: two that release at once, or one that was held up, end with the newest release's image.
        """
        services, manifests = self._services, self._services.registry.manifests
        written: dict[str, str] = {}
        while True:
            with services.database.read() as session:
                release = session.get_one(Release, task.build.id)
                tags = releases.tagged(session, release.registry_host, release.repository, release.tags)
            if tags == written:
                return [tag for tag, digest in tags.items() if digest == release.digest]
            if not written:
                # Not in a `read`: on its snapshot, PostgreSQL refuses to lock what a heartbeat has changed since.
                with services.database.write() as session:
                    builds.hold(session, task.claim)
            for tag in tags:
                if written.get(tag) != tags[tag]:
                    manifests.put(target.tagged(tag), manifests.get(target.at(tags[tag])).data)
            written = tags


def _created(signed: SignedBundle) -> str:
    return (signed.integrated_time or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
