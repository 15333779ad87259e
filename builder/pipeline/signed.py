"""The signed record of a released image, from the registry alone: what a rebuild has to trust, and nothing more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from builder.errors import Rejected, Unavailable
from builder.image.digests import digest_of
from builder.pipeline.provenance import BUILD_TYPE
from builder.pipeline.services import Services
from builder.recipes.model import Recipe
from builder.recipes.reading import recipe_digest
from builder.registry.artifact import BUNDLE
from builder.registry.attached import attached
from builder.registry.client import RegistryClient
from builder.registry.reference import Repository
from builder.signing.slsa import Provenance, ResourceDescriptor
from builder.signing.statement import SLSA_PROVENANCE
from builder.signing.trust import client_trust
from builder.signing.verification import MAX_BUNDLE, VerificationFailed, VerifiedStatement, verify_bundle

_EPOCH = datetime.fromtimestamp(0, UTC)


class NotRebuildable(Rejected):
    slug = "not-rebuildable"
    title = "The image cannot be rebuilt from its record"


@dataclass(frozen=True)
class SignedRecord:
    """What the provenance says of how an image came to be. `bundle_digest` is of the bundle that was verified."""

    recipe: Recipe
    provenance: Provenance
    bundle_digest: str
    lock_digest: str
    materials_digest: str
    inventory_digest: str
    identity: str


def signed_record(services: Services, registry: RegistryClient, repository: Repository, digest: str) -> SignedRecord:
    """Verify the newest provenance beside an image.

    Raises VerificationFailed, NotRebuildable, and what the registry client raises.
    """
    newest, bundle = verified_provenance(services, registry, repository, digest)
    try:
        provenance = Provenance.model_validate(newest.statement.predicate)
    except ValidationError as error:
        raise NotRebuildable(f"the provenance of {digest} is not SLSA Provenance v1") from error
    definition = provenance.build_definition
    if definition.build_type != BUILD_TYPE:
        raise NotRebuildable(f"{digest} was built as {definition.build_type}; only {BUILD_TYPE} is understood")
    told = definition.external_parameters.get("recipeDigest")
    try:
        recipe = Recipe.model_validate_json(json.dumps(definition.external_parameters.get("recipe")))
    except ValidationError as error:
        raise NotRebuildable(
            f"the recipe of {digest} is not one of this version's", hint="rebuild with the Goldsmith that built it"
        ) from error
    if recipe_digest(recipe) != told:
        raise NotRebuildable(
            f"the recipe in the provenance of {digest} has the digest {recipe_digest(recipe)}, not {told}"
        )
    made = provenance.run_details.byproducts
    return SignedRecord(
        recipe=recipe,
        provenance=provenance,
        bundle_digest=digest_of(bundle),
        lock_digest=_named("lock", definition.resolved_dependencies, digest),
        materials_digest=_named("materials", made, digest),
        inventory_digest=_named("inventory", made, digest),
        identity=newest.identity,
    )


def verified_provenance(
    services: Services, registry: RegistryClient, repository: Repository, digest: str
) -> tuple[VerifiedStatement, bytes]:
    """The newest provenance beside an image that the settings' signer made, and its bundle.

    Raises VerificationFailed, NotRebuildable if nobody has said who that is, and what the registry client raises.
    """
    settings = services.settings
    if settings.signer_identity is None or settings.signer_issuer is None:
        raise NotRebuildable(
            "nobody has said whose provenance to believe",
            hint="an operator sets GOLDSMITH_SIGNER_IDENTITY and GOLDSMITH_SIGNER_ISSUER",
        )
    root = client_trust(services.trust).trusted_root
    found = attached(registry, repository, digest, BUNDLE)
    proofs: list[tuple[VerifiedStatement, bytes]] = []
    refusals = list(found.unreadable)
    for blob in found.blobs:
        try:
            bundle = registry.blobs.fetch(repository, blob, limit=MAX_BUNDLE)
            verified = verify_bundle(
                bundle,
                trusted_root=root,
                identity=settings.signer_identity,
                issuer=settings.signer_issuer,
                digest=digest,
                predicate_type=SLSA_PROVENANCE,
            )
        except Unavailable:
            raise
        except Rejected as error:
            refusals.append(error.detail)
        else:
            proofs.append((verified, bundle))
    if not proofs:
        registry.manifests.get(repository.at(digest))  # of what is not there nothing else need be said
        why = "; ".join(refusals[:3]) or "there is none"
        raise VerificationFailed(f"no provenance beside {repository}@{digest} verifies: {why}")
    return max(proofs, key=lambda one: (one[0].integrated_time or _EPOCH, one[0].log_index))


def _named(name: str, resources: tuple[ResourceDescriptor, ...], digest: str) -> str:
    for resource in resources:
        if resource.name == name and resource.digest and "sha256" in resource.digest:
            return f"sha256:{resource.digest['sha256']}"
    raise NotRebuildable(
        f"the provenance of {digest} names no {name}", hint="it was released by a version that kept no materials"
    )
