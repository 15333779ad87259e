"""The policy of a recipe: what it demands beyond the organisation's, and how much of that one's leeway it uses."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from builder.policy.demands import Demands
from builder.policy.rules.secrets import Secrets
from builder.policy.rules.vulnerabilities import LIMITS, SeverityLimit, Vulnerabilities


class Policy(BaseModel):
    """`spec.policy` of a recipe. Unknown keys are refused, so a typo cannot open the gate."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)

    maximum_severity: SeverityLimit = Field(
        default="medium",
        description="The worst severity of a known vulnerability that may still be released; 'none' allows no "
        "vulnerability at all. A vulnerability that nobody has rated counts as critical.",
    )
    ignore_unfixed: bool = Field(default=False, description="Do not hold back for vulnerabilities without a fix.")
    allow_secrets: bool = Field(default=False, description="Release although the scanner found secrets in the image.")
    rules: Demands = Field(
        default=Demands(),
        description="Rules to judge by, beside the organisation's: docs/policy.md. A recipe can tighten, never loosen.",
    )

    @property
    def demands(self) -> Demands:
        """All of it as rules. What the recipe does not say has strict defaults: leeway must be asked for."""
        own = Demands(
            vulnerabilities=Vulnerabilities(
                maximum_severity=self.maximum_severity,
                maximum_severity_unfixed="critical" if self.ignore_unfixed else self.maximum_severity,
            ),
            secrets=Secrets(allow=self.allow_secrets),
        )
        return own.tightened(self.rules)

    def looser_than(self, demanded: Demands) -> list[tuple[str, object, object]]:
        """(field, asked, demanded) of each field of the recipe that asks for less than is demanded."""
        found: list[tuple[str, object, object]] = []
        known = demanded.vulnerabilities or Vulnerabilities(maximum_severity="critical")
        limit, unfixed = known.maximum_severity, known.maximum_severity_unfixed
        if "maximum_severity" in self.model_fields_set and LIMITS.index(self.maximum_severity) > LIMITS.index(limit):
            found.append(("maximumSeverity", self.maximum_severity, limit))
        if self.ignore_unfixed and unfixed != "critical":
            found.append(("ignoreUnfixed", True, f"{unfixed} at the most without a fix"))
        if self.allow_secrets and demanded.secrets is not None and not demanded.secrets.allow:
            found.append(("allowSecrets", True, False))
        return found + [(f"rules.{rule}.{name}", a, d) for rule, name, a, d in self.rules.looser_than(demanded)]
