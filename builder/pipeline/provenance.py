"""The SLSA provenance of a build, put together by the release worker from what the control plane recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from builder import __version__
from builder.image.documents import MANIFEST
from builder.pipeline.evidence import BuildEvidence, ScanEvidence
from builder.pipeline.materials import LOCK
from builder.planning.lock import Lock
from builder.signing.slsa import (
    BuildDefinition,
    Builder,
    BuildMetadata,
    Provenance,
    ResourceDescriptor,
    RunDetails,
)
from builder.store.journal import LOG_TYPE
from builder.store.schema import Build, Step

# Described in docs/build-type.md.
BUILD_TYPE = "urn:goldsmith:build:v1"


def provenance(build: Build, steps: Sequence[Step], builder_id: str, log_digest: str) -> Provenance:
    """`build` has the evidence of the build and scan stages."""
    built = BuildEvidence.model_validate(build.evidence["build"])
    scanned = ScanEvidence.model_validate(build.evidence["scan"])
    return Provenance(
        build_definition=BuildDefinition(
            build_type=BUILD_TYPE,
            external_parameters={
                "recipe": json.loads(build.recipe),
                "recipeDigest": build.recipe_digest,
                # What the recipe left open is in it already; these say what it was filled in with, and whence it came.
                **{name: build.options[name] for name in ("parameters", "source") if name in build.options},
                # A lock that the request brought was chosen by whoever asked; one that we made was not.
                **({"lock": built.lock_digest} if built.lock_given else {}),
            },
            internal_parameters={
                "requester": build.requester,
                **({"requesterIdentity": build.identity} if build.identity is not None else {}),
                "attempt": build.attempt,
                "sourceDateEpoch": built.lock.epoch,
                "hermetic": built.hermetic,
                "engine": built.engine,
                "compression": built.image.compression.model_dump(mode="json"),
                "archives": [archive.model_dump(mode="json", by_alias=True) for archive in built.lock.archives],
            },
            resolved_dependencies=(*_source(build), *_dependencies(built.lock, built.lock_digest)),
        ),
        run_details=RunDetails(
            builder=Builder(id=builder_id, version={"goldsmith": __version__}),
            metadata=BuildMetadata(
                invocation_id=f"urn:goldsmith:build:{build.id}",
                started_on=datetime.fromtimestamp(steps[0].started_at, UTC) if steps else None,
                finished_on=datetime.fromtimestamp(max(step.finished_at or 0 for step in steps), UTC)
                if steps
                else None,
            ),
            byproducts=tuple(_byproducts(built, scanned, log_digest)),
        ),
    )


def _source(build: Build) -> list[ResourceDescriptor]:
    """The commit that the recipe was taken from, as SLSA names one."""
    source = build.options.get("source")
    if source is None:
        return []
    uri = f"git+{source['repository']}@{quote(source['ref'])}"
    return [ResourceDescriptor(uri=uri, digest={"gitCommit": source["commit"]}, name="source")]


def _dependencies(lock: Lock, lock_digest: str) -> list[ResourceDescriptor]:
    """Every input by digest: the lock itself, base image, packages, files."""
    found = [ResourceDescriptor(name="lock", digest=_digest(lock_digest), media_type=LOCK)]
    if lock.base.image is not None:
        found.append(ResourceDescriptor(uri=_image_url(lock), digest=_digest(lock.base.image_digest), name="base"))
    for package in lock.all_packages:
        found.append(ResourceDescriptor(uri=package.purl, digest={"sha256": package.sha256}, name=package.name))
    for file in lock.files:
        found.append(ResourceDescriptor(digest={"sha256": file.sha256}, name=file.path))
    return found


def _image_url(lock: Lock) -> str:
    """A package URL of type oci. Of another recipe's image it says no registry: it is the same in any."""
    assert lock.base.image is not None
    repository, _, digest = lock.base.image.rpartition("@")
    name = lock.base.recipe or repository.rpartition("/")[2]
    url = f"pkg:oci/{name}@{quote(digest, safe='')}"
    return f"{url}?repository_url={quote(repository, safe='')}" if repository else url


def _byproducts(built: BuildEvidence, scanned: ScanEvidence, log_digest: str) -> list[ResourceDescriptor]:
    """What came of the build beside the image. `inventory` is what a comparison starts from."""
    return [
        ResourceDescriptor(
            name="inventory",
            digest=_digest(built.image.inventory_digest),
            annotations={"merkleRoot": built.image.inventory_root, "paths": built.image.paths},
        ),
        ResourceDescriptor(name="materials", digest=_digest(built.materials_digest), media_type=MANIFEST),
        ResourceDescriptor(name="log", digest=_digest(log_digest), media_type=LOG_TYPE),
        ResourceDescriptor(name="sbom-cyclonedx", digest=_digest(scanned.cyclonedx_digest)),
        ResourceDescriptor(name="sbom-spdx", digest=_digest(scanned.spdx_digest)),
        ResourceDescriptor(
            name="scan",
            digest=_digest(scanned.report_digest),
            annotations={
                "scanner": f"{scanned.scanner.name} {scanned.scanner.version}",
                "scannerDigest": f"sha256:{scanned.scanner.sha256}",
                "databaseDigest": scanned.database.digest,
                "databaseUpdated": scanned.database.updated_at.isoformat(),
                "sampleDatabase": scanned.database.sample,
                "gate": "passed" if scanned.verdict.passed else "failed",
            },
        ),
    ]


def _digest(digest: str | None) -> dict[str, str]:
    assert digest is not None
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}
