"""The verdict of the gate: for each rule what held, what did not, and what would make it pass."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from builder.errors import Fault, Rejected
from builder.scanning.findings import Severity

_FAULTS_SHOWN = 50


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Offender(_Frozen):
    """One thing that a rule is about: what it is, where, and what exactly to change.

    Of what nobody rates, a path or a package, the severity is None.
    """

    id: str
    severity: Severity | None = None
    subject: str
    remedy: str

    def __str__(self) -> str:
        if self.severity is None:
            return f"{self.id}: {self.subject}"
        return f"{self.id} ({self.severity.lower()}) in {self.subject}"


class RuleResult(_Frozen):
    """`field` is the recipe's field that sets the rule; a rule without one is the organisation's, or only remarks.

    `parameters` are those that were judged by, `remedy` says in a sentence what would make the rule pass, and
    `documentation` is the path of its page below docs/.
    """

    rule: str
    field: str | None
    passed: bool
    explanation: str
    offenders: tuple[Offender, ...] = ()
    title: str = ""
    parameters: dict[str, Any] = {}
    remedy: str | None = None
    documentation: str | None = None


class PolicyIdentity(_Frozen):
    """Which policy was judged by. `digest` (`sha256:<hex>`) is of the effective one, the recipe's demands included."""

    name: str
    version: str
    digest: str


class Excepted(_Frozen):
    """A vulnerability that did not count, because somebody answers for it until `expires`."""

    vulnerability: str
    package: str
    exception: str
    owner: str
    reason: str
    expires: AwareDatetime | None


class Verdict(_Frozen):
    """`passed` is true when every rule passed. `sample_database` says that the scan rests on an incomplete database.

    `facts_digest` (`sha256:<hex>`) is of the facts that were judged.
    """

    passed: bool
    reference: str
    rules: tuple[RuleResult, ...]
    sample_database: bool
    database_digest: str
    policy: PolicyIdentity | None = None
    excepted: tuple[Excepted, ...] = ()
    facts_digest: str | None = None

    @property
    def explanation(self) -> str:
        """Of every rule why it holds or does not."""
        return self._told([rule.explanation for rule in self.rules])

    @property
    def summary(self) -> str:
        """In a line: that all rules hold, or why those that do not."""
        return self._told([rule.explanation for rule in self.rules if not rule.passed] or [self._all_hold()])

    def _told(self, sentences: list[str]) -> str:
        if not self.sample_database:
            return " ".join(sentences)
        mark = (
            "The scan rests on the sample database, which is not complete: it cannot show that an image is free of "
            "known vulnerabilities."
        )
        return " ".join([*sentences, mark])

    def _all_hold(self) -> str:
        number, policy = len(self.rules), self.policy
        of = f" of the policy {policy.name} {policy.version}" if policy else ""
        excepted = f"; excepted vulnerabilities: {len(self.excepted)}" if self.excepted else ""
        return f"{number} rule{'' if number == 1 else 's'}{of} hold{'s' if number == 1 else ''}{excepted}."


class GateFailed(Rejected):
    """The image breaks its recipe's policy. Nothing of it is released."""

    slug = "gate-failed"
    title = "The image does not meet its policy"

    @classmethod
    def of(cls, verdict: Verdict) -> GateFailed:
        """The error that a failed verdict is: each offender is a fault with its remedy as the hint."""
        failed = [rule for rule in verdict.rules if not rule.passed]
        faults = [fault for rule in failed for fault in _faults(rule)]
        left_out = len(faults) - _FAULTS_SHOWN
        more = [Fault(message=f"and {left_out} more, all in the verdict of the scan")] if left_out > 0 else []
        detail = " ".join(rule.explanation for rule in failed)
        return cls(
            detail, hint="each error says what to change; then build again", errors=[*faults[:_FAULTS_SHOWN], *more]
        )


def _faults(rule: RuleResult) -> list[Fault]:
    """A rule that fails as a whole, without offenders, is a fault too if it says what to do."""
    if not rule.offenders and rule.remedy:
        return [Fault(message=rule.explanation, field=rule.field, hint=rule.remedy)]
    return [Fault(message=str(one), field=rule.field, hint=one.remedy) for one in rule.offenders]
