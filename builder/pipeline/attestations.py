"""What a release says of its image beside the provenance: what the scanner found, and that the gate let it pass."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from builder.errors import SettingsInvalid
from builder.pipeline.evidence import ScanEvidence
from builder.pipeline.services import Services
from builder.registry.reference import Reference
from builder.scanning.findings import ScannerIdentity, Vulnerability
from builder.signing.signer import SignedBundle
from builder.signing.slsa import ResourceDescriptor
from builder.signing.statement import Statement
from builder.signing.vsa import SummaryVerifier, VerificationSummary
from builder.signing.vulns import Found, ScannedBy, ScannerDatabase, ScanTimes, Score, VulnerabilityScan
from builder.store.schema import Build, Step


def signed_by_us(services: Services, statements: Sequence[Statement]) -> list[SignedBundle]:
    """Sign with the worker's identity. Raises what signing raises, and SettingsInvalid when that identity is not the
    one that the settings say we have."""
    settings = services.settings
    signed = services.new_signer().sign_all(statements)
    expected = (settings.signer_identity, settings.signer_issuer)
    for one in signed:
        if settings.signer_identity is not None and (one.identity, one.issuer) != expected:
            raise SettingsInvalid(
                f"the certificate is for {one.identity} of {one.issuer}, not for the configured signer",
                hint="GOLDSMITH_SIGNER_IDENTITY and GOLDSMITH_SIGNER_ISSUER say who we are",
            )
    return signed


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
