"""Text into an organisation's policy: each fault by line and field, with the nearest name that is known."""

from __future__ import annotations

from pydantic import ValidationError

from builder.errors import Fault, Rejected
from builder.policy.organisation import OrganisationPolicy
from builder.recipes.document import RecipeInvalid, parse
from builder.recipes.reading import faults_of


class PolicyInvalid(Rejected):
    """A policy with a typo would judge by less than its writer thinks, so it judges nothing."""

    slug = "policy-invalid"
    title = "The policy is not valid"


def read_policy(text: str | bytes, *, source: str = "policy") -> OrganisationPolicy:
    """Parse and validate. Raises PolicyInvalid that lists every fault, each with its place."""
    try:
        document = parse(text, source=source)
    except RecipeInvalid as error:
        raise PolicyInvalid(error.detail, errors=error.errors) from error
    try:
        return OrganisationPolicy.model_validate(document.data)
    except ValidationError as error:
        raise _invalid(source, faults_of(error, document, OrganisationPolicy)) from error


def _invalid(source: str, faults: list[Fault]) -> PolicyInvalid:
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return PolicyInvalid(f"{source}: {'; '.join(str(one) for one in faults[:3])}{more}", errors=faults[:20])
