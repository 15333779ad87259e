"""The gate: facts judged by a policy. A verdict says for each rule what held, what did not, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from builder.policy.custom import judge_custom, refuse_late
from builder.policy.effective import EffectivePolicy
from builder.policy.exceptions import PolicyException, expired, matching
from builder.policy.facts import Facts
from builder.policy.rules import RULES
from builder.policy.rules.vulnerabilities import Vulnerabilities, offends
from builder.policy.verdict import Excepted, RuleResult, Verdict
from builder.scanning.findings import Vulnerability


def evaluate(
    policy: EffectivePolicy, facts: Facts, *, exceptions: Sequence[PolicyException] = (), until: float | None = None
) -> Verdict:
    """Judge what was gathered of an image. Exceptions count as of the moment it was gathered.

    Whether a failed verdict is an error is for the caller to say (`GateFailed.of`). `until`, a time of the monotonic
    clock, limits the custom rules together: then it raises CustomRulesTooSlow.
    """
    limits = policy.demands.vulnerabilities or Vulnerabilities()
    excepting = _Excepting(exceptions, facts.recipe, facts.reference.rpartition("@")[2], facts.gathered_at)
    excepted, left, outdated = excepting.sort(facts.findings.vulnerabilities, limits)
    findings = facts.findings.model_copy(update={"vulnerabilities": left})
    judged = facts.model_copy(update={"findings": findings})
    results = []
    for rule in RULES.values():
        parameters = policy.demands.of(rule)
        if parameters is None and rule.always:
            parameters = rule.parameters()
        if parameters is None:
            continue
        result = rule.apply(judged, parameters)
        results.append(_with_exceptions(result, excepted, outdated) if rule.name == "vulnerabilities" else result)
    for one in policy.custom:
        refuse_late(until)
        results.append(judge_custom(one, facts))
    return Verdict(
        passed=all(result.passed for result in results),
        reference=facts.reference,
        rules=tuple(results),
        sample_database=facts.database.sample,
        database_digest=facts.database.digest,
        policy=policy.identity,
        excepted=tuple(excepted),
        facts_digest=facts.digest,
    )


@dataclass(frozen=True)
class _Excepting:
    exceptions: Sequence[PolicyException]
    recipe: str
    digest: str
    now: datetime

    def sort(
        self, found: Sequence[Vulnerability], limits: Vulnerabilities
    ) -> tuple[list[Excepted], tuple[Vulnerability, ...], list[str]]:
        """What is excepted, the findings that are left to judge, and which expired exceptions did not count."""
        excepted, left, outdated = [], [], []
        for one in found:
            if not offends(one, limits):
                left.append(one)
                continue
            holds = matching(self.exceptions, one, recipe=self.recipe, digest=self.digest, now=self.now)
            if holds is not None:
                excepted.append(_used(holds, one))
                continue
            left.append(one)
            gone = expired(self.exceptions, one, recipe=self.recipe, digest=self.digest, now=self.now)
            if gone:
                outdated.append(
                    f"The exception {gone[0].id} of {gone[0].owner} for {one.id} in {one.package} EXPIRED on "
                    f"{gone[0].expires:%Y-%m-%d} and did not count."
                )
        return excepted, tuple(left), outdated


def _used(exception: PolicyException, found: Vulnerability) -> Excepted:
    return Excepted(
        vulnerability=found.id,
        package=found.package,
        exception=exception.id,
        owner=exception.owner,
        reason=exception.reason,
        expires=exception.expires,
    )


def _with_exceptions(result: RuleResult, excepted: Sequence[Excepted], outdated: Sequence[str]) -> RuleResult:
    sentences = [result.explanation]
    if excepted:
        number = len(excepted)
        sentences.append(f"{number} more {'is' if number == 1 else 'are'} excepted, as the verdict lists.")
    return result.model_copy(update={"explanation": " ".join([*sentences, *outdated])})
