"""The policy that holds, part by part: each rule with its parameters, and who demands them."""

from __future__ import annotations

from typing import Any

import rfc8785
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from builder.image.digests import digest_of
from builder.policy.demands import Demands
from builder.policy.effective import effective
from builder.policy.organisation import CustomRule, OrganisationPolicy
from builder.policy.policy import Policy
from builder.policy.rule import PAGES
from builder.policy.rules import RULES

ALWAYS = "always judged"
ORGANISATION = "organisation"
RECIPE = "recipe"
RECIPE_SILENT = "recipe, by default"


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class RuleInForce(_Told):
    rule: str
    title: str
    parameters: dict[str, Any]
    source: str = Field(description="Who names the rule.", examples=[ORGANISATION, "override 0 (pay-*)", RECIPE])
    sources: dict[str, str] = Field(description="Who demands the value of each parameter.")
    documentation: str


class CustomInForce(_Told):
    rule: str = Field(examples=["custom.no-perl"])
    title: str
    expression: str
    remedy: str
    source: str
    documentation: str


class PolicyInForce(_Told):
    """An organisation's policy, and what follows from it: for one recipe, or for those that no override names."""

    name: str
    version: str
    description: str
    digest: str = Field(description="Of the organisation's document, as canonical JSON (RFC 8785).")
    document: dict[str, Any] = Field(description="The organisation's policy, as it is written.")
    recipe: str | None = Field(description="Whose policy this is; null is the organisation's alone.")
    effective_digest: str = Field(description="Of all that is demanded: what a verdict names.")
    rules: tuple[RuleInForce, ...]
    custom: tuple[CustomInForce, ...]


def policy_in_force(
    organisation: OrganisationPolicy, recipe: str | None = None, policy: Policy | None = None
) -> PolicyInForce:
    """What is demanded of a recipe by its name and its own policy."""
    metadata, document = organisation.metadata, document_of(organisation)
    name = recipe or ""
    return PolicyInForce(
        name=metadata.name,
        version=metadata.version,
        description=metadata.description,
        digest=digest_of(rfc8785.dumps(document)),
        document=document,
        recipe=recipe,
        effective_digest=effective(organisation, name, policy).identity.digest,
        rules=_rules(_layers(organisation, name, policy)),
        custom=_custom(organisation, name),
    )


def document_of(organisation: OrganisationPolicy) -> dict[str, Any]:
    """As it was written: to say a default means more than to leave it out, where an override must not loosen."""
    return organisation.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _layers(organisation: OrganisationPolicy, recipe: str, policy: Policy | None) -> list[tuple[str, Demands]]:
    """Who demands what, in the order in which they tighten each other."""
    always: dict[str, object] = {
        rule.name: {} for rule in RULES.values() if rule.always and organisation.spec.rules.of(rule) is None
    }
    layers = [(ORGANISATION, organisation.spec.rules), (ALWAYS, Demands.model_validate(always))]
    layers += [(_told(index, one.recipes), one.rules) for index, one in organisation.overrides_of(recipe)]
    if policy is not None:
        spoken = Demands(
            vulnerabilities=policy.demands.vulnerabilities
            if policy.model_fields_set & {"maximum_severity", "ignore_unfixed"}
            else None,
            secrets=policy.demands.secrets if "allow_secrets" in policy.model_fields_set else None,
        )
        layers += [(RECIPE, spoken.tightened(policy.rules)), (RECIPE_SILENT, policy.demands)]
    return layers


def _rules(layers: list[tuple[str, Demands]]) -> tuple[RuleInForce, ...]:
    demanded, named, sources = Demands(), dict[str, str](), dict[str, dict[str, str]]()
    for source, layer in layers:
        before, demanded = demanded.told(), demanded.tightened(layer)
        for name, parameters in demanded.told().items():
            known = before.get(name)
            named.setdefault(name, source)
            changed = {one for one, value in parameters.items() if known is None or known[one] != value}
            sources.setdefault(name, {}).update(dict.fromkeys(changed, source))
    told = demanded.told()
    return tuple(
        RuleInForce(
            rule=rule.name,
            title=rule.title,
            parameters=told[rule.name],
            source=named[rule.name],
            sources=sources[rule.name],
            documentation=rule.page,
        )
        for rule in RULES.values()
        if rule.name in told
    )


def _custom(organisation: OrganisationPolicy, recipe: str) -> tuple[CustomInForce, ...]:
    every = [(ORGANISATION, one) for one in organisation.spec.custom]
    for index, override in organisation.overrides_of(recipe):
        every += [(_told(index, override.recipes), one) for one in override.custom]
    return tuple(_custom_told(source, one) for source, one in every)


def _custom_told(source: str, rule: CustomRule) -> CustomInForce:
    return CustomInForce(
        rule=f"custom.{rule.name}",
        title=rule.title,
        expression=rule.expression,
        remedy=rule.remedy,
        source=source,
        documentation=f"{PAGES}/custom.md",
    )


def _told(index: int, recipes: list[str]) -> str:
    return f"override {index} ({', '.join(recipes)})"
