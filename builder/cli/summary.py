"""What came of a build, in a few lines."""

from __future__ import annotations

from rich.text import Text

from builder.cli.evidence import digest_alone
from builder.cli.output import complain, print_fields, say, seconds_text, size_text, state_text, styled
from builder.cli.problems import problem_lines
from builder.client.models import Attestation, Build, Outcome, Rebuild, Result
from builder.counted import counted

_SHOWN_DIFFERENCES = 50
_SEVERITIES = ("critical", "high", "medium", "low", "unknown")


def print_outcome(build: Build) -> None:
    """For whoever followed it: the image and what to do with it, or why there is none."""
    if not build.released:
        print_failure(build)
        return
    say()
    print_fields(
        [
            ("released", styled(build.result.reference or "", "bold green")),
            _tags(build),
            *result_facts(build.result),
            _record(build),
        ]
    )
    say()
    print_fields(next_commands(build.result.reference or ""))


def print_rebuilt(build: Build, image: str) -> None:
    """For whoever asked whether an image can be built again; `image` is how they named it."""
    from builder.registry.reference import parse_reference

    if not build.succeeded or build.rebuild is None:
        print_failure(build)
        return
    say()
    print_fields([("reproduced", styled(build.rebuild.outcome, "bold green")), *_rebuild_facts(build.rebuild)])
    attestation = build.rebuild.attestation
    if attestation is not None and build.subject is not None and not digest_alone(image):
        reference = parse_reference(image).repository.at(build.subject)
        say()
        print_fields([("verify", f"goldsmith verify {reference} --rebuilder {attestation.identity}")])


def print_failure(build: Build) -> None:
    """Why it ended without what it was for, and where more is told."""
    complain("")
    if build.problem is None:
        complain(f"The build {build.id} is {build.state}", "bold red")
    else:
        first, *rest = problem_lines(build.problem, _differences(build))
        complain(f"{build.state}: {first}", "bold red")
        for line in rest:
            complain(line)
    complain(f"  log: goldsmith logs {build.id}")


def print_build(build: Build) -> None:
    """All that is known about a build."""
    print_fields(
        [
            ("build", build.id),
            ("recipe", f"{build.recipe}  {build.recipe_digest}"),
            ("purpose", build.purpose if build.purpose != "release" else None),
            ("state", Text.assemble(state_text(build.state), "  (cancellation requested)" * build.cancel_requested)),
            ("requester", build.requester if build.team is None else f"{build.requester} of {build.team}"),
            ("created", f"{build.created_at:%Y-%m-%d %H:%M:%S} UTC"),
            ("took", _took(build)),
            ("attempt", str(build.attempt) if build.attempt > 1 else None),
            ("waits for", build.waits_for if build.state == "waiting" else None),
            ("unchanged since", build.unchanged_since),
            ("image", build.result.reference or build.result.digest or build.subject),
            _tags(build),
            *result_facts(build.result),
            _record(build),
            ("rebuilt", build.rebuild.outcome if build.rebuild else None),
            *(_rebuild_facts(build.rebuild) if build.rebuild else ()),
            *(_comparison_facts(build.comparison) if build.comparison else ()),
        ]
    )
    for one in build.retries:
        say(f"  attempt {one.attempt} ended while {one.state}: {one.detail}")
    if build.steps:
        say()
    for step in build.steps:
        took = seconds_text(step.seconds) if step.seconds is not None else ""
        say(f"  {step.name:<13}", state_text(f"{step.state:<8}"), f" {took:>9}  {step.summary}")
    if build.problem is not None:
        say()
        for line in problem_lines(build.problem, _differences(build)):
            say(styled(line, "red"))


def findings_text(findings: dict[str, int]) -> str:
    known = [f"{findings[severity]} {severity}" for severity in _SEVERITIES if severity in findings]
    return ", ".join([*known, *(f"{n} {severity}" for severity, n in findings.items() if severity not in _SEVERITIES)])


def result_facts(result: Result) -> list[tuple[str, str | Text | None]]:
    return [
        ("contents", _contents(result)),
        ("tests", _tests(result)),
        ("findings", _findings(result)),
        ("gate", _gate(result)),
        ("signed by", _signer(result)),
    ]


def _tags(build: Build) -> tuple[str, str | None]:
    return ("tags", ", ".join(build.result.tags) or None)


def _record(build: Build) -> tuple[str, str | None]:
    return ("record", f"GET /v1/images/{build.result.digest}/record" if build.released else None)


def _rebuild_facts(rebuild: Rebuild) -> list[tuple[str, str | Text | None]]:
    sources = [f"{counted(count, 'package')} from {source}" for source, count in rebuild.materials_from.items()]
    attestation = rebuild.attestation
    return [
        ("materials", ", ".join(sources) or None),
        ("attested by", _identity(attestation) if attestation else None),
        ("referrer", attestation.referrer if attestation else None),
    ]


def _comparison_facts(outcome: Outcome) -> list[tuple[str, str | Text | None]]:
    partly = "" if outcome.complete else ", not all of it looked at"
    return [
        ("compared", f"{outcome.name}: {outcome.verdict}{partly}"),
        ("drift", f"{counted(outcome.totals.findings, 'path')}, {outcome.totals.configuration} in the configuration"),
        ("report", outcome.report_digest),
    ]


def _differences(build: Build) -> list[str]:
    """Of a rebuilt image that is another: what differs, a path a line."""
    if build.rebuild is None:
        return []
    found, total = build.rebuild.differences, build.rebuild.differences_total
    lines = [
        f"{','.join(one.kinds):<13} {one.path}" + (f"  [{one.package}]" if one.package else "")
        for one in found[:_SHOWN_DIFFERENCES]
    ]
    more = total - len(lines)
    return [*lines, f"… and {more} more; --json lists up to {len(found)}"] if more > 0 else lines


def _contents(result: Result) -> str | None:
    if result.packages is None:
        return None
    size = f", {size_text(result.compressed_size)} compressed" if result.compressed_size is not None else ""
    return f"{result.packages} packages{size}"


def _tests(result: Result) -> str | None:
    if result.tests is None:
        return None
    return f"{result.tests} passed" + (", built without network" if result.hermetic else "")


def _findings(result: Result) -> Text | None:
    if result.gate is None:
        return None
    sample = ("  SAMPLE DATABASE: not complete, for trying things out only", "bold yellow")
    return Text.assemble(styled(findings_text(result.findings) or "none"), sample if result.sample_database else "")


def _gate(result: Result) -> Text | None:
    if result.gate is None:
        return None
    why = f"  {result.gate_explanation}" if result.gate_explanation else ""
    return Text.assemble(styled(result.gate, "green" if result.gate == "passed" else "red"), styled(why))


def _signer(result: Result) -> Text | None:
    if result.signer_identity is None:
        return None
    return _signature(
        f"{result.signer_identity} (issuer {result.signer_issuer}), log index {result.log_index}",
        sandbox=bool(result.sandbox_signer),
    )


def _identity(signed: Attestation) -> Text:
    return _signature(
        f"{signed.identity} (issuer {signed.issuer}), log index {signed.log_index}", sandbox=signed.sandbox
    )


def _signature(text: str, *, sandbox: bool) -> Text:
    return Text.assemble(("SANDBOX, no real Sigstore: ", "bold yellow") if sandbox else "", styled(text))


def next_commands(reference: str) -> list[tuple[str, str | Text | None]]:
    return [
        ("verify", f"goldsmith verify {reference}"),
        ("pull", f"docker pull {reference}"),
        ("compare", f"goldsmith compare CONTAINER {reference}"),
    ]


def _took(build: Build) -> str | None:
    if build.finished_at is None:
        return None
    return seconds_text((build.finished_at - build.created_at).total_seconds())
