"""Judges a difference: expected, or how grave and why. Rules say how grave; expectations say what is no drift."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from builder.forensics.expected import WRITTEN_BY_ENGINE, Expectation, engine_wrote, expected_reason
from builder.forensics.findings import Difference, Finding, Kind, Severity
from builder.forensics.rules import Power, Rule, where_regex
from builder.image.entry import Entry, EntryType

ENGINE = "engine"
_CAPABILITY = b"security.capability"


def judge_with(rules: Sequence[Rule], expectations: Sequence[Expectation] = ()) -> Callable[[Difference], Finding]:
    """A judge for `compare`: the first of `rules` that fits decides, and the last has to fit everything.

    What the engine itself writes is told apart before any rule is asked. An expectation excuses what a rule found only
    if the rule is excusable, and something that moved only if both places are expected.
    """
    prepared = [_Prepared.of(rule) for rule in rules]

    def judge(difference: Difference) -> Finding:
        if Kind.MOVED not in difference.kinds and engine_wrote(difference.path, difference.golden, difference.subject):
            reason = "The container engine writes this into every container."
            return Finding(difference, Severity.INFO, ENGINE, reason, WRITTEN_BY_ENGINE)
        facts = _Facts.of(difference)
        rule = next((one.rule for one in prepared if one.fits(facts)), None)
        if rule is None:
            # Rules without a last one that fits everything must not make a difference harmless.
            return Finding(difference, Severity.MEDIUM, "none", "No rule speaks of this.")
        expected = _expected(difference, expectations) if rule.excusable else None
        return Finding(difference, rule.severity, rule.id, rule.reason, expected)

    return judge


@dataclass(frozen=True)
class _Facts:
    """What rules ask about a difference, found once."""

    paths: tuple[bytes, ...]
    kinds: frozenset[Kind]
    type: EntryType | None
    has: frozenset[Power]
    gained: frozenset[Power]
    packaged: bool

    @classmethod
    def of(cls, difference: Difference) -> _Facts:
        golden, subject = difference.golden, difference.subject
        there = subject or golden
        # At another place, or as another thing, a power is new even if its former self had it too.
        fresh = golden is None or not {Kind.MOVED, Kind.TYPE}.isdisjoint(difference.kinds)
        has = _powers(subject) if subject else frozenset[Power]()
        return cls(
            paths=(difference.path, *((difference.moved_from,) if difference.moved_from is not None else ())),
            kinds=frozenset(difference.kinds),
            type=there.type if there else None,
            has=has,
            gained=has if fresh or golden is None else has - _powers(golden),
            packaged=difference.package is not None,
        )


@dataclass(frozen=True)
class _Prepared:
    rule: Rule
    where: re.Pattern[bytes] | None
    kinds: frozenset[Kind]
    only: frozenset[Kind]
    types: frozenset[EntryType]
    gained: frozenset[Power]
    has: frozenset[Power]

    @classmethod
    def of(cls, rule: Rule) -> _Prepared:
        when = rule.when
        where = where_regex(rule.where) if rule.where else None
        return cls(
            rule=rule,
            where=where,
            kinds=frozenset(when.kinds),
            only=frozenset(when.only),
            types=frozenset(when.types),
            gained=frozenset(when.gained),
            has=frozenset(when.has),
        )

    def fits(self, facts: _Facts) -> bool:
        packaged = self.rule.when.packaged
        return (
            (not self.kinds or not self.kinds.isdisjoint(facts.kinds))
            and (not self.only or facts.kinds <= self.only)
            and (not self.types or facts.type in self.types)
            and (not self.gained or not self.gained.isdisjoint(facts.gained))
            and (not self.has or not self.has.isdisjoint(facts.has))
            and (packaged is None or packaged is facts.packaged)
            and (self.where is None or any(self.where.fullmatch(path) for path in facts.paths))
        )


def _expected(difference: Difference, expectations: Sequence[Expectation]) -> str | None:
    reason = expected_reason(difference.path, difference.golden, difference.subject, expectations)
    if reason is None or difference.moved_from is None:
        return reason
    # What went from where it belonged is missing there, wherever it is now.
    return reason if expected_reason(difference.moved_from, difference.golden, None, expectations) else None


def _powers(entry: Entry) -> frozenset[Power]:
    found = set()
    if entry.type is EntryType.SYMLINK:
        return frozenset()
    if entry.mode & 0o4000:
        found.add(Power.SET_UID)
    if entry.mode & 0o2000:
        found.add(Power.SET_GID)
    if entry.mode & 0o111:
        found.add(Power.EXECUTABLE)
    if entry.mode & 0o002 and not (entry.type is EntryType.DIRECTORY and entry.mode & 0o1000):
        found.add(Power.WORLD_WRITABLE)
    if entry.device is not None:
        found.add(Power.DEVICE)
    if any(name == _CAPABILITY for name, _ in entry.xattrs):
        found.add(Power.CAPABILITY)
    return frozenset(found)
