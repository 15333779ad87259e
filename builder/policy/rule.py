"""A rule: one question to the facts, with a name, parameters, an answer that explains itself, and a page that tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

from builder.policy.facts import Facts, Paths
from builder.policy.strictness import Parameters
from builder.policy.verdict import Offender, RuleResult

PAGES = "policy/rules"
# What somebody dates later than now by more than this is dated wrongly, and would never get old.
CLOCKS_DIFFER = timedelta(days=1)


@dataclass(frozen=True)
class Judgement:
    """What a rule finds. `remedy` is needed where it fails without an offender that says what to do."""

    passed: bool
    explanation: str
    offenders: tuple[Offender, ...] = ()
    remedy: str | None = None


@dataclass(frozen=True)
class Rule:
    """`name` is the word that policies use; `judge` gets parameters of the kind `parameters`.

    `field` is where in a recipe a person sets what the rule is about. An `always` rule judges though no policy names
    it, with the defaults of its parameters. `example` are parameters for its page.
    """

    name: str
    title: str
    parameters: type[Parameters]
    judge: Callable[[Facts, Any], Judgement]
    field: str | None
    remedy: str
    always: bool = False
    example: dict[str, Any] = dataclass_field(default_factory=dict)

    @property
    def page(self) -> str:
        return f"{PAGES}/{self.name}.md"

    def apply(self, facts: Facts, parameters: Parameters) -> RuleResult:
        """The result for the verdict."""
        found = self.judge(facts, parameters)
        return RuleResult(
            rule=self.name,
            title=self.title,
            field=self.field,
            passed=found.passed,
            explanation=found.explanation,
            offenders=found.offenders,
            parameters=parameters.told(),
            remedy=None if found.passed else found.remedy or self.remedy,
            documentation=self.page,
        )


class NoParameters(Parameters):
    """A rule that is on or off."""


def unknown(what: str, remedy: str) -> Judgement:
    """Nobody knows is not yes."""
    return Judgement(False, f"Nobody has looked at {what}, so it cannot be vouched for.", remedy=remedy)


def judge_paths(paths: Paths | None, what: str, allowed: Sequence[str], remedy: str) -> Judgement:
    """No path but those allowed. `what` names a path of the kind, in the plural; a `*` in a pattern stands for any part
    of one name or more."""
    if paths is None:
        return unknown(f"the image's {what}", "build the image again: its inventory was not read")
    offending = [one for one in paths.found if not matches(one.path, allowed)]
    if not offending and not paths.unlisted:
        excused = f" but {len(paths.found)} that the policy allows" if paths.found else ""
        return Judgement(True, f"The image has no {what}{excused}.")
    offenders = tuple(
        Offender(
            id=one.path,
            subject=f"mode {one.mode}, owner {one.owner}" + (f", of the package {one.package}" if one.package else ""),
            remedy=remedy,
        )
        for one in offending
    )
    number = len(offending) + paths.unlisted
    return Judgement(False, f"The image has {number} {what} that the policy does not allow.", offenders, remedy)


def matches(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def count(things: Sequence[object] | int, one: str, many: str) -> str:
    number = things if isinstance(things, int) else len(things)
    return f"{number} {one if number == 1 else many}"
