"""What a policy demands: for each rule that it names, the parameters. The same words in every policy and recipe."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from builder.policy.rule import NoParameters, Rule
from builder.policy.rules import RULES
from builder.policy.rules.accounts import Accounts
from builder.policy.rules.base import BaseLimits
from builder.policy.rules.base_age import BaseAge
from builder.policy.rules.database import Database
from builder.policy.rules.devices import Devices
from builder.policy.rules.histories import Histories
from builder.policy.rules.image_size import ImageSize
from builder.policy.rules.keys import Keys
from builder.policy.rules.licenses import Licenses
from builder.policy.rules.misconfiguration import MisconfigurationLimit
from builder.policy.rules.package_managers import PackageManagers
from builder.policy.rules.packages import Packages
from builder.policy.rules.secrets import Secrets
from builder.policy.rules.setuid import Setuid
from builder.policy.rules.shells import Shells
from builder.policy.rules.ssh_servers import SshServers
from builder.policy.rules.tests import RecipeTests
from builder.policy.rules.updates import Updates
from builder.policy.rules.user import User
from builder.policy.rules.vulnerabilities import Vulnerabilities
from builder.policy.rules.world_writable import WorldWritable
from builder.policy.strictness import Parameters, looser_fields, stricter


class Demands(BaseModel):
    """Rules by name, each with its parameters; `{}` is a rule as it stands. What is not named is not judged, but for
    the rules that always are."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)

    completeness: NoParameters | None = None
    database: Database | None = None
    vulnerabilities: Vulnerabilities | None = None
    updates: Updates | None = None
    secrets: Secrets | None = None
    misconfiguration: MisconfigurationLimit | None = None
    setuid: Setuid | None = None
    world_writable: WorldWritable | None = None
    accounts: Accounts | None = None
    user: User | None = None
    ssh_servers: SshServers | None = None
    keys: Keys | None = None
    histories: Histories | None = None
    devices: Devices | None = None
    shells: Shells | None = None
    package_managers: PackageManagers | None = None
    healthcheck: NoParameters | None = None
    licenses: Licenses | None = None
    packages: Packages | None = None
    base: BaseLimits | None = None
    base_age: BaseAge | None = None
    image_size: ImageSize | None = None
    tests: RecipeTests | None = None
    hermetic: NoParameters | None = None
    reproducible: NoParameters | None = None

    def of(self, rule: Rule) -> Parameters | None:
        """The parameters for a rule; None if it is not named."""
        found: Parameters | None = getattr(self, _FIELDS[rule.name])
        return found

    def whole(self) -> Demands:
        """With the rules that judge always, by their defaults where they are not named."""
        added = {rule.name: rule.parameters() for rule in RULES.values() if rule.always and self.of(rule) is None}
        return self._with(added)

    def tightened(self, other: Demands) -> Demands:
        """What demands all that either demands."""
        met: dict[str, Parameters] = {}
        for rule in RULES.values():
            own, asked = self.of(rule), other.of(rule)
            if own is not None and asked is not None:
                met[rule.name] = stricter(own, asked)
            elif asked is not None:
                met[rule.name] = asked
        return self._with(met)

    def looser_than(self, demanded: Demands) -> list[tuple[str, str, object, object]]:
        """(rule, parameter, asked, demanded) of each parameter that was written here and asks for less."""
        found: list[tuple[str, str, object, object]] = []
        for rule in RULES.values():
            asked, needed = self.of(rule), demanded.of(rule)
            if asked is not None and needed is not None:
                found += [
                    (rule.name, to_camel(name), getattr(asked, name), getattr(needed, name))
                    for name in looser_fields(asked, needed)
                ]
        return found

    def told(self) -> dict[str, dict[str, Any]]:
        """As a policy writes them, as JSON: only the rules that are named, with all their parameters."""
        return {rule.name: found.told() for rule in RULES.values() if (found := self.of(rule)) is not None}

    def _with(self, parameters: dict[str, Parameters]) -> Demands:
        return self.model_copy(update={_FIELDS[name]: found for name, found in parameters.items()})


# Of each rule, by the name that policies write.
_FIELDS = {one.alias or name: name for name, one in Demands.model_fields.items()}
