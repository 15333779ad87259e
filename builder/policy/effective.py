"""The policy that one recipe is judged by: the organisation's, tightened by the recipe's. Never looser than either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import rfc8785

from builder.errors import Fault, Rejected
from builder.image.digests import digest_of
from builder.policy.demands import Demands
from builder.policy.organisation import CustomRule, OrganisationPolicy
from builder.policy.policy import Policy
from builder.policy.verdict import PolicyIdentity


class PolicyLoosened(Rejected):
    """A recipe can tighten the organisation's policy, and never loosen it."""

    slug = "policy-loosened"
    title = "The recipe asks for less than the organisation demands"


@dataclass(frozen=True)
class EffectivePolicy:
    """What is demanded in the end. `name` and `version` are the organisation's policy's."""

    name: str
    version: str
    demands: Demands
    custom: tuple[CustomRule, ...] = ()

    @property
    def identity(self) -> PolicyIdentity:
        document: dict[str, Any] = {
            "rules": self.demands.told(),
            "custom": [one.model_dump(mode="json", by_alias=True) for one in self.custom],
        }
        return PolicyIdentity(name=self.name, version=self.version, digest=digest_of(rfc8785.dumps(document)))


def effective(organisation: OrganisationPolicy, recipe: str, policy: Policy | None = None) -> EffectivePolicy:
    """The policy for a recipe by its name. Without the recipe's own it is the organisation's alone."""
    demanded = organisation.demands_of(recipe)
    return EffectivePolicy(
        name=organisation.metadata.name,
        version=organisation.metadata.version,
        demands=demanded.tightened(policy.demands) if policy is not None else demanded,
        custom=organisation.custom_of(recipe),
    )


def refuse_looser(organisation: OrganisationPolicy, recipe: str, policy: Policy) -> None:
    """Raises PolicyLoosened with a fault for each field that asks for less than the organisation demands."""
    metadata = organisation.metadata
    faults = [
        Fault(
            field=f"spec.policy.{name}",
            message=f"{_told(asked)} is looser than {_told(demanded)}, which the policy {metadata.name} "
            f"{metadata.version} demands",
            hint="tighten it, or leave it out",
        )
        for name, asked, demanded in policy.looser_than(organisation.demands_of(recipe))
    ]
    if faults:
        raise PolicyLoosened(f"recipe {recipe}: " + "; ".join(str(fault) for fault in faults[:3]), errors=faults)


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return "no limit" if value is None else str(value)
