"""What a release says of its image beside the provenance: tests, scan, gate, packages, and documents by digest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from pydantic import JsonValue

from builder.errors import SettingsInvalid
from builder.image.documents import MANIFEST
from builder.pipeline.evidence import BuildEvidence, ScanEvidence
from builder.pipeline.services import Services
from builder.registry.reference import Reference
from builder.scanning.findings import ScannerIdentity, Vulnerability
from builder.signing.references import Attester, References
from builder.signing.signer import SignedBundle
from builder.signing.slsa import ResourceDescriptor
from builder.signing.statement import CYCLONEDX_BOM, Statement, Subject
from builder.signing.tested import TestRun
from builder.signing.vsa import SummaryVerifier, VerificationSummary
from builder.signing.vulns import Found, ScannedBy, ScannerDatabase, ScanTimes, Score, VulnerabilityScan
from builder.store.attachments import Kind
from builder.store.schema import Build, Step

# A bill of materials is signed in whole up to this size, beyond it by digest alone: the log stores what is signed.
MAX_SIGNED_BOM = 4 * 1024 * 1024


def signed_by_us(services: Services, statements: Sequence[Statement]) -> list[SignedBundle]:
    """Sign with the worker's identity. Raises what signing raises, and SettingsInvalid when that identity is not the
    one that the settings say we have."""
    signed = services.new_signer().sign_all(statements)
    for one in signed:
        if not is_ours(services, one):
            raise SettingsInvalid(
                f"the certificate is for {one.identity} of {one.issuer}, not for the configured signer",
                hint="GOLDSMITH_SIGNER_IDENTITY and GOLDSMITH_SIGNER_ISSUER say who we are",
            )
    return signed


def is_ours(services: Services, signed: SignedBundle) -> bool:
    """Whether a bundle is by the identity that the settings say we have; where they say nothing, any is."""
    settings = services.settings
    expected = (settings.signer_identity, settings.signer_issuer)
    return settings.signer_identity is None or (signed.identity, signed.issuer) == expected


def vulnerability_scan(build: Build, steps: Sequence[Step]) -> VulnerabilityScan:
    """`build` has the evidence of the scan; `steps` are the build's that have ended."""
    scanned = ScanEvidence.model_validate(build.evidence["scan"])
    started, finished = _times(scanned, steps)
    return VulnerabilityScan(
        scanner=ScannedBy(
            uri=_scanner_uri(scanned.scanner),
            version=scanned.scanner.version,
            db=ScannerDatabase(
                uri=scanned.database.source,
                version=scanned.database.digest,
                last_update=scanned.database.updated_at,
            ),
            result=tuple(_found(one) for one in scanned.findings.vulnerabilities),
        ),
        metadata=ScanTimes(scan_started_on=started, scan_finished_on=finished),
    )


def verification_summary(build: Build, steps: Sequence[Step], verifier: str, image: Reference) -> VerificationSummary:
    """That the gate let the image pass. `verifier` is this installation's builder id, `image` is named by digest."""
    scanned = ScanEvidence.model_validate(build.evidence["scan"])
    assert scanned.verdict.passed, "nothing is released that did not pass"
    return VerificationSummary(
        verifier=SummaryVerifier(id=verifier),
        time_verified=_ended(steps, "gate"),
        resource_uri=_package_url(image),
        policy=_policy(scanned, build.recipe_digest),
    )


def recipe_tests(build: Build) -> TestRun:
    """Which of the recipe's tests ran; the recipe is their configuration. `build` has the evidence of the build."""
    built = BuildEvidence.model_validate(build.evidence["build"])
    assert all(one.passed for one in built.tests), "nothing is released whose tests failed"
    return TestRun(
        configuration=(ResourceDescriptor(name="recipe", digest=_digest(build.recipe_digest)),),
        passed_tests=tuple(one.name for one in built.tests),
    )


def bill_of_materials(cyclonedx: bytes, subject: Subject) -> Statement | None:
    """The CycloneDX document as a predicate, which is what policy engines evaluate; None for one that is too large."""
    if len(cyclonedx) > MAX_SIGNED_BOM:
        return None
    return Statement(subject=(subject,), predicateType=CYCLONEDX_BOM, predicate=json.loads(cyclonedx))


def references(build: Build, beside: Mapping[Kind, tuple[str, str]], attester: str, registry_url: str) -> References:
    """The documents beside the image by digest, so that each is as good as signed. `beside` has for each its media type
    and digest; `registry_url` ends with the repository: `https://HOST/v2/REPOSITORY`."""
    built = BuildEvidence.model_validate(build.evidence["build"])
    tree: dict[str, JsonValue] = {"merkleRoot": built.image.inventory_root, "paths": built.image.paths}
    found = [
        ResourceDescriptor(
            name=str(kind),
            digest=_digest(digest),
            media_type=media_type,
            download_location=f"{registry_url}/blobs/{digest}",
            annotations=tree if kind is Kind.INVENTORY else None,
        )
        for kind, (media_type, digest) in beside.items()
    ]
    materials = built.materials_digest
    found.append(
        ResourceDescriptor(
            name="materials",
            digest=_digest(materials),
            media_type=MANIFEST,
            download_location=f"{registry_url}/manifests/{materials}",
        )
    )
    return References(attester=Attester(id=attester), references=tuple(found))


def _policy(scanned: ScanEvidence, recipe_digest: str) -> ResourceDescriptor:
    """The effective policy; of a scan that named none, the recipe whose policy alone was asked."""
    policy = scanned.verdict.policy
    if policy is None:
        return ResourceDescriptor(uri="urn:goldsmith:policy:recipe", digest=_digest(recipe_digest))
    return ResourceDescriptor(uri=f"urn:goldsmith:policy:{policy.name}", digest=_digest(policy.digest))


def _found(one: Vulnerability) -> Found:
    scores = [Score(method=one.severity_source or "trivy", score=one.severity)]
    scores += [
        Score(method=f"cvss-{cvss.version}/{cvss.source}", score=f"{cvss.score:g}") for cvss in one.cvss if cvss.score
    ]
    about = {
        "package": one.package,
        "installed": one.installed,
        "fixed": one.fixed,
        "status": one.status,
        "purl": one.purl,
    }
    return Found(
        id=one.id, severity=tuple(scores), annotations=({name: value for name, value in about.items() if value},)
    )


def _scanner_uri(scanner: ScannerIdentity) -> str:
    return f"pkg:github/aquasecurity/{scanner.name}@v{scanner.version}?checksum=sha256:{scanner.sha256}"


def _package_url(image: Reference) -> str:
    repository = str(image.repository)
    name, digest = repository.rpartition("/")[2], quote(image.digest or "", safe="")
    return f"pkg:oci/{name}@{digest}?repository_url={quote(repository, safe='')}"


def _times(scanned: ScanEvidence, steps: Sequence[Step]) -> tuple[datetime, datetime]:
    """When the scanner ran, which may be before its step: an image is looked at while it is still tested."""
    if scanned.started_at is not None and scanned.seconds is not None:
        return scanned.started_at, scanned.started_at + timedelta(seconds=scanned.seconds)
    started = [step.started_at for step in steps if step.name == "scan"]
    return datetime.fromtimestamp(max(started), UTC), _ended(steps, "scan")


def _ended(steps: Sequence[Step], name: str) -> datetime:
    """When a step ended, the last time that it was done."""
    return datetime.fromtimestamp(max(step.finished_at or 0 for step in steps if step.name == name), UTC)


def _digest(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}
