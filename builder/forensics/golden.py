"""What a comparison takes from a golden image's verified provenance: its inventory's digest, and how it is to run."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ValidationError

from builder.errors import Rejected
from builder.forensics.configuration import GoldenConfiguration, Runtime
from builder.image.digests import digest_of
from builder.image.documents import parse_config
from builder.signing.slsa import Provenance


class NotCompared(Rejected):
    slug = "not-compared"
    title = "The subject could not be compared"


class _Spec(BaseModel):
    runtime: Runtime = Runtime()


class _SignedRecipe(BaseModel):
    """The part of a recipe that a comparison needs; the rest of it may be of a later version."""

    spec: _Spec = _Spec()


def golden_configuration(provenance: Provenance, config: bytes | None, digest: str) -> GoldenConfiguration:
    """Of the image with that manifest digest, what its recipe and, where it was had, its config say.

    Raises NotCompared and DocumentInvalid.
    """
    try:
        signed = _SignedRecipe.model_validate(provenance.build_definition.external_parameters.get("recipe"))
    except ValidationError as error:
        raise NotCompared(f"the recipe in the provenance of {digest} cannot be read") from error
    if config is None:
        return GoldenConfiguration(signed.spec.runtime)
    parse_config(config)  # is one
    return GoldenConfiguration(signed.spec.runtime, json.loads(config), (digest_of(config), digest))


def signed_inventory(provenance: Provenance, digest: str) -> str:
    """The digest of the inventory of the image with that manifest digest. Raises NotCompared."""
    for made in provenance.run_details.byproducts:
        if made.name == "inventory" and made.digest and "sha256" in made.digest:
            return f"sha256:{made.digest['sha256']}"
    raise NotCompared(f"the provenance of {digest} names no inventory")


def signed_recipe(provenance: Provenance) -> dict[str, Any]:
    """The recipe that the provenance quotes; that it is one, verification has shown by its digest."""
    recipe = provenance.build_definition.external_parameters.get("recipe")
    return recipe if isinstance(recipe, dict) else {}
