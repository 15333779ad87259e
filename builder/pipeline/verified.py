"""The golden image of a comparison, verified: nothing is compared with what does not verify."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from builder.forensics.comparison import GoldenImage
from builder.forensics.golden import NotCompared, golden_configuration, signed_inventory
from builder.forensics.report import Check, VerifiedBy
from builder.image.documents import MAX_DOCUMENT, parse_manifest
from builder.image.inventory import MEDIA_TYPE as INVENTORY
from builder.pipeline.services import Services
from builder.pipeline.signed import verified_provenance
from builder.registry.attached import attached
from builder.registry.reference import Repository
from builder.signing.slsa import Provenance
from builder.signing.verification import VerifiedStatement


def verified_golden(services: Services, repository: Repository, digest: str) -> GoldenImage:
    """The image's provenance, signed by the settings' signer, and what of the image it vouches for.

    Raises NotCompared, VerificationFailed, NotRebuildable, and what the registry client raises.
    """
    if services.settings.signer_identity is None:
        raise NotCompared(
            "nobody has said whose provenance to believe",
            hint="an operator sets GOLDSMITH_SIGNER_IDENTITY and GOLDSMITH_SIGNER_ISSUER, for the scan worker too",
        )
    registry = services.registry
    manifest = parse_manifest(registry.manifests.get(repository.at(digest)).data)
    signed, _ = verified_provenance(services, registry, repository, digest)
    try:
        provenance = Provenance.model_validate(signed.statement.predicate)
    except ValidationError as error:
        raise NotCompared(f"the provenance of {digest} is not SLSA Provenance v1") from error
    config = registry.blobs.fetch(repository, manifest.config, limit=MAX_DOCUMENT)
    return GoldenImage(
        image=str(repository.at(digest)),
        digest=digest,
        inventory_digest=signed_inventory(provenance, digest),
        configuration=golden_configuration(provenance, config, digest),
        configuration_digest=manifest.config.digest,
        verified=_verified_by(signed),
    )


def fetch_inventory(services: Services, repository: Repository, golden: GoldenImage, destination: Path) -> None:
    """The inventory with the digest that was signed, into a new file. Raises NotCompared, DigestMismatch."""
    beside = attached(services.registry, repository, golden.digest, INVENTORY).blobs
    blob = next((one for one in beside if one.digest == golden.inventory_digest), None)
    if blob is None:
        raise NotCompared(f"{repository} does not hold the inventory {golden.inventory_digest} of {golden.digest}")
    services.registry.blobs.pull(repository, blob, destination)


def _verified_by(signed: VerifiedStatement) -> VerifiedBy:
    time = f"at {signed.integrated_time:%Y-%m-%d %H:%M:%S} UTC" if signed.integrated_time else "without a signed time"
    return VerifiedBy(
        identity=signed.identity,
        issuer=signed.issuer,
        trust="the settings of the service that compared",
        # Whoever reads the report takes the service's word for all of it.
        trust_from_server=True,
        sandbox=signed.sandbox,
        log_index=signed.log_index,
        integrated_time=signed.integrated_time,
        checks=(
            Check(name="signature identity", detail=f"{signed.identity} (issuer {signed.issuer})"),
            Check(name="log inclusion", detail=f"entry {signed.log_index}, {time}"),
            Check(name="predicate type", detail=signed.statement.predicate_type),
        ),
    )
