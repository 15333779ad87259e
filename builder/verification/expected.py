"""What a verifier expects of an image beyond sound signatures, each expectation a check of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from pydantic import JsonValue, ValidationError

from builder.signing.slsa import Provenance
from builder.signing.statement import VERIFICATION_SUMMARY
from builder.signing.verification import VerifiedStatement
from builder.signing.vsa import VerificationSummary
from builder.verification.beside import newest_of
from builder.verification.check import Check


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Expected:
    """Of each list one must match (`*` stands for anything); an empty one expects nothing.

    `required` are names of `beside.KINDS`; `gate_policies` are digests, `sha256:…`, of policies of the gate; `max_age`
    is since the log took the provenance.
    """

    required: Sequence[str] = ()
    builders: Sequence[str] = ()
    build_types: Sequence[str] = ()
    recipes: Sequence[str] = ()
    sources: Sequence[str] = ()
    requesters: Sequence[str] = ()
    gate_policies: Sequence[str] = ()
    max_age: timedelta | None = None
    hermetic: bool = False
    no_sandbox: bool = False
    now: Callable[[], datetime] = _now


def expectations(
    expected: Expected, signed: VerifiedStatement, provenance: Provenance, beside: Sequence[VerifiedStatement]
) -> Iterator[Check]:
    """`signed` is the provenance's statement; `beside` is all that verified, it too."""
    definition = provenance.build_definition
    told: tuple[tuple[str, Sequence[str], JsonValue], ...] = (
        ("expected builder", expected.builders, provenance.run_details.builder.id),
        ("build type", expected.build_types, definition.build_type),
        ("expected recipe", expected.recipes, _metadata(provenance, "name")),
        ("expected source", expected.sources, _metadata(provenance, "source")),
        ("requester", expected.requesters, (definition.internal_parameters or {}).get("requester")),
    )
    yield from (_one_of(name, wanted, found) for name, wanted, found in told if wanted)
    if expected.gate_policies:
        yield _gate_policy(expected.gate_policies, beside)
    if expected.max_age is not None:
        yield _age(expected.max_age, signed.integrated_time, expected.now())
    if expected.hermetic:
        yield _hermetic(provenance)
    if expected.no_sandbox:
        made_up = sorted({one.statement.predicate_type for one in beside if one.sandbox})
        found = f"signed by a sandbox, as anybody can: {', '.join(made_up)}" if made_up else "no sandbox signed"
        yield Check("real signature", not made_up, found)


def _metadata(provenance: Provenance, name: str) -> JsonValue:
    """Of the recipe that the provenance quotes."""
    recipe = provenance.build_definition.external_parameters.get("recipe")
    metadata = recipe.get("metadata") if isinstance(recipe, dict) else None
    return metadata.get(name) if isinstance(metadata, dict) else None


def _one_of(name: str, wanted: Sequence[str], found: JsonValue) -> Check:
    if not isinstance(found, str):
        return Check(name, False, f"the provenance tells none; expected is {' or '.join(wanted)}")
    if any(fnmatchcase(found, one.replace("[", "[[]").replace("?", "[?]")) for one in wanted):
        return Check(name, True, found)
    return Check(name, False, f"{found}; expected is {' or '.join(wanted)}")


def _gate_policy(wanted: Sequence[str], beside: Sequence[VerifiedStatement]) -> Check:
    """The verdict itself is checked where it is told; here only by which policy it was reached."""
    name, judged = "gate policy", "no verdict that holds is attached"
    verdict = newest_of(beside, VERIFICATION_SUMMARY)
    if verdict is not None:
        try:
            policy = VerificationSummary.model_validate(verdict.statement.predicate).policy
        except ValidationError:
            return Check(name, False, "the signed verdict is not a SLSA Verification Summary v1 that passed")
        found = f"sha256:{(policy.digest or {}).get('sha256', '?')}"
        if found in wanted:
            return Check(name, True, found)
        judged = f"it passed by {found}"
    return Check(name, False, f"{judged}; expected is {' or '.join(wanted)}")


def _age(limit: timedelta, signed: datetime | None, now: datetime) -> Check:
    if signed is None:
        return Check("age", False, "the log signed no time, so its age is not known")
    age = now - signed
    if age < -timedelta(minutes=5):
        return Check(
            "age", False, f"it was signed at {signed:%Y-%m-%d %H:%M:%S} UTC, which is yet to come: see the clock"
        )
    days = age / timedelta(days=1)
    if age > limit:
        return Check("age", False, f"{days:.1f} days; at most {limit / timedelta(days=1):g} are allowed")
    return Check("age", True, f"{max(days, 0):.1f} days of {limit / timedelta(days=1):g}")


def _hermetic(provenance: Provenance) -> Check:
    told = (provenance.build_definition.internal_parameters or {}).get("hermetic")
    if told is True:
        return Check("hermetic", True, "built without a network")
    return Check(
        "hermetic", False, "a step of it had a network or a secret" if told is False else "the provenance does not tell"
    )
