"""A policy as it is used: read, and its custom rules tried on an example, once for each text."""

from __future__ import annotations

from functools import lru_cache

from builder.policy.custom import check_custom
from builder.policy.organisation import OrganisationPolicy
from builder.policy.reading import read_placed


@lru_cache(maxsize=8)
def checked_policy(text: bytes, source: str) -> OrganisationPolicy:
    """Raises PolicyInvalid for a typo, in a custom rule too."""
    policy, document = read_placed(text, source=source)
    check_custom(policy, source=source, document=document)
    return policy
