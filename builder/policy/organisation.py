"""The organisation's policy: a versioned document that holds for every recipe, and the one that holds without any."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from builder.policy.demands import Demands
from builder.policy.rules import RULES
from builder.policy.rules.accounts import Accounts
from builder.policy.rules.database import Database
from builder.policy.rules.devices import Devices
from builder.policy.rules.histories import Histories
from builder.policy.rules.keys import Keys
from builder.policy.rules.misconfiguration import MisconfigurationLimit
from builder.policy.rules.secrets import Secrets
from builder.policy.rules.setuid import Setuid
from builder.policy.rules.ssh_servers import SshServers
from builder.policy.rules.vulnerabilities import Vulnerabilities
from builder.policy.rules.world_writable import WorldWritable

_Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


class CustomRule(_Strict):
    """A rule of the organisation's own: an expression in CEL over `facts`. What is not true fails, an error too."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][A-Za-z0-9-]{0,62}$")]
    title: _Line
    expression: Annotated[str, StringConstraints(min_length=1, max_length=10_000)] = Field(
        description="CEL, such as `facts.packages.all(p, p.name != 'perl')`."
    )
    remedy: _Line = Field(description="What a person must change when it fails.")


class Override(_Strict):
    """What more is demanded of some recipes. A name is whoever writes a recipe to choose: so this only tightens."""

    recipes: Annotated[list[_Line], Field(min_length=1)] = Field(
        description="Names of recipes; `*` stands for anything."
    )
    rules: Demands = Demands()
    custom: list[CustomRule] = []


class PolicyMetadata(_Strict):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$")] = Field(
        description="Changed with every change of the policy; in quotes if it is a number."
    )
    description: Annotated[str, StringConstraints(max_length=4000)] = ""


class PolicySpec(_Strict):
    rules: Demands = Demands()
    custom: list[CustomRule] = []
    overrides: list[Override] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known: set[str] = set()
        for field, name in self._names():
            if name in known:
                raise ValueError(f"{field}: two custom rules are named {name!r}; give one of them another name")
            if name in RULES:
                raise ValueError(f"{field}: {name!r} is the name of a rule of Goldsmith's own; choose another")
            known.add(name)
        demanded = self.rules.whole()
        for index, override in enumerate(self.overrides):
            for rule, name, asked, needed in override.rules.looser_than(demanded):
                raise ValueError(
                    f"overrides[{index}].rules.{rule}.{name}: {asked} is looser than {needed}, which holds for every "
                    "recipe; an override only tightens"
                )
        return self

    def _names(self) -> Iterator[tuple[str, str]]:
        """(field, name) of each custom rule."""
        for index, rule in enumerate(self.custom):
            yield f"custom[{index}].name", rule.name
        for place, override in enumerate(self.overrides):
            for index, rule in enumerate(override.custom):
                yield f"overrides[{place}].custom[{index}].name", rule.name


class OrganisationPolicy(_Strict):
    """A policy for all recipes of an installation, GOLDSMITH_POLICY."""

    api_version: Literal["goldsmith/v1"]
    kind: Literal["Policy"]
    metadata: PolicyMetadata
    spec: PolicySpec = PolicySpec()

    def demands_of(self, recipe: str) -> Demands:
        """What it demands of a recipe by its name."""
        demanded = self.spec.rules.whole()
        for _, override in self.overrides_of(recipe):
            demanded = demanded.tightened(override.rules)
        return demanded

    def custom_of(self, recipe: str) -> tuple[CustomRule, ...]:
        return (*self.spec.custom, *(one for _, override in self.overrides_of(recipe) for one in override.custom))

    def overrides_of(self, recipe: str) -> list[tuple[int, Override]]:
        """Those that name a recipe, each with its place among all."""
        return [
            (index, one)
            for index, one in enumerate(self.spec.overrides)
            if any(fnmatchcase(recipe, name) for name in one.recipes)
        ]


# Without a policy recipes decide on vulnerabilities and secrets for themselves, by defaults that are strict.
DEFAULT = OrganisationPolicy(
    api_version="goldsmith/v1",
    kind="Policy",
    metadata=PolicyMetadata(
        name="default",
        version="1",
        description="Holds where GOLDSMITH_POLICY is not set: recipes decide on vulnerabilities and secrets.",
    ),
    spec=PolicySpec(
        rules=Demands(
            vulnerabilities=Vulnerabilities(maximum_severity="critical"),
            secrets=Secrets(allow=True),
            database=Database(),
            misconfiguration=MisconfigurationLimit(),
            setuid=Setuid(allow_kept=True),
            world_writable=WorldWritable(),
            accounts=Accounts(),
            ssh_servers=SshServers(),
            keys=Keys(),
            histories=Histories(),
            devices=Devices(),
        )
    ),
)
