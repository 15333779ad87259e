"""What came of a build, in a few lines."""

from __future__ import annotations

from rich.text import Text

from builder.cli.output import complain, print_fields, say, seconds_text, size_text, state_text, styled
from builder.cli.problems import problem_lines
from builder.client.models import Build, Result

_SEVERITIES = ("critical", "high", "medium", "low", "unknown")


def print_outcome(build: Build) -> None:
    """For whoever followed it: the image and what to do with it, or why there is none."""
    if build.released:
        say()
        print_fields([("released", styled(build.result.reference or "", "bold green")), *_facts(build)])
        say()
        print_fields(_next_commands(build.result))
        return
    complain("")
    if build.problem is None:
        complain(f"The build {build.id} is {build.state}", "bold red")
    else:
        first, *rest = problem_lines(build.problem)
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
            ("state", Text.assemble(state_text(build.state), "  (cancellation requested)" * build.cancel_requested)),
            ("requester", build.requester),
            ("created", f"{build.created_at:%Y-%m-%d %H:%M:%S} UTC"),
            ("took", _took(build)),
            ("attempt", str(build.attempt) if build.attempt > 1 else None),
            ("waits for", build.waits_for if build.state == "waiting" else None),
            ("image", build.result.reference or build.result.digest),
            *_facts(build),
        ]
    )
    if build.steps:
        say()
    for step in build.steps:
        took = seconds_text(step.seconds) if step.seconds is not None else ""
        say(f"  {step.name:<13}", state_text(f"{step.state:<8}"), f" {took:>9}  {step.summary}")
    if build.problem is not None:
        say()
        for line in problem_lines(build.problem):
            say(styled(line, "red"))


def findings_text(findings: dict[str, int]) -> str:
    known = [f"{findings[severity]} {severity}" for severity in _SEVERITIES if severity in findings]
    return ", ".join([*known, *(f"{n} {severity}" for severity, n in findings.items() if severity not in _SEVERITIES)])


def _facts(build: Build) -> list[tuple[str, str | Text | None]]:
    result = build.result
    return [
        ("tags", ", ".join(result.tags) or None),
        ("contents", _contents(result)),
        ("tests", _tests(result)),
        ("findings", _findings(result)),
        ("gate", _gate(result)),
        ("signed by", _signer(result)),
        ("record", f"GET /v1/images/{result.digest}/record" if build.released else None),
    ]


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
    mark = ("SANDBOX, no real Sigstore: ", "bold yellow") if result.sandbox_signer else ""
    return Text.assemble(
        mark, styled(f"{result.signer_identity} (issuer {result.signer_issuer}), log index {result.log_index}")
    )


def _next_commands(result: Result) -> list[tuple[str, str | Text | None]]:
    return [
        ("verify", f"goldsmith verify {result.reference}"),
        ("pull", f"docker pull {result.reference}"),
        ("compare", f"goldsmith compare CONTAINER {result.reference}"),
    ]


def _took(build: Build) -> str | None:
    if build.finished_at is None:
        return None
    return seconds_text((build.finished_at - build.created_at).total_seconds())
