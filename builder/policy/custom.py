"""Custom rules: expressions in CEL over the facts, each evaluated in a process of its own with limits.

True passes. All else fails, and says why: false, an error, no answer in time. See docs/adr/0010-cel.md.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.errors import Fault, GoldsmithError, Rejected
from builder.policy.facts import (
    Account,
    BaseFacts,
    Facts,
    Files,
    Found,
    ImageFacts,
    Paths,
    RanTest,
    Update,
)
from builder.policy.organisation import CustomRule, OrganisationPolicy
from builder.policy.reading import PolicyInvalid, path_of
from builder.policy.rule import PAGES
from builder.policy.verdict import RuleResult
from builder.process import run
from builder.recipes.document import Document
from builder.scanning.findings import (
    Cvss,
    DatabaseIdentity,
    Findings,
    License,
    Misconfiguration,
    OperatingSystem,
    Package,
    ScannerIdentity,
    Secret,
    Severity,
    Vulnerability,
)

PREFIX = "custom."
SECONDS = 5.0
_MEMORY_BYTES = 512 * 1024**2
_CHILD = Path(__file__).with_name("cel_child.py")
_UNKNOWN_KEY = re.compile(r'(?:Key not found in map|no such key)\s*:\s*"?(?P<key>[A-Za-z0-9_]+)')


class CustomRulesTooSlow(Rejected):
    slug = "custom-rules-too-slow"
    title = "The custom rules take too long together"


def refuse_late(until: float | None) -> None:
    """Each rule has its own limit of time; this one is for all of them, `until` a time of the monotonic clock.

    Raises CustomRulesTooSlow: a verdict with rules that had no time would not be the gate's.
    """
    if until is not None and time.monotonic() > until:
        raise CustomRulesTooSlow(
            "the time for all custom rules is over before each of them was evaluated",
            hint="try them in parts, or with `goldsmith policy test` on a facts file",
        )


def judge_custom(rule: CustomRule, facts: Facts, *, seconds: float = SECONDS) -> RuleResult:
    """The result for the verdict. Raises nothing: what cannot be evaluated fails."""
    value, error = _evaluated(rule.expression, facts.model_dump(mode="json"), seconds)
    if error is not None:
        explanation = f"{rule.title}: the rule could not be evaluated, which counts as failed: {error}."
        remedy = f"have those who write the policy mend its rule {rule.name}"
    else:
        explanation = f"{rule.title}: the rule {'holds' if value else 'does not hold'}."
        remedy = rule.remedy
    return RuleResult(
        rule=f"{PREFIX}{rule.name}",
        title=rule.title,
        field=None,
        passed=value,
        explanation=explanation,
        parameters={"expression": rule.expression},
        remedy=None if value else remedy,
        documentation=f"{PAGES}/custom.md",
    )


def check_custom(
    policy: OrganisationPolicy,
    *,
    source: str = "policy",
    document: Document | None = None,
    until: float | None = None,
) -> None:
    """Try every custom rule on an example. Raises PolicyInvalid for one that does not compile, gives no truth value, or
    asks for a fact that there is none of, with its place in the document; and CustomRulesTooSlow."""
    data = example_facts().model_dump(mode="json")
    faults = []
    for field, rule in _placed(policy):
        refuse_late(until)
        _, error = _evaluated(rule.expression, data, SECONDS)
        if error is not None and not _of_the_example_alone(error):
            unknown = _UNKNOWN_KEY.search(error)
            near = difflib.get_close_matches(unknown["key"], sorted(set(_keys(data))), n=1) if unknown else []
            hint = f"did you mean '{near[0]}'?" if near else "docs/policy.md has the facts"
            line, column = document.place(path_of(field)) if document else (None, None)
            message = f"the rule {rule.name}: {error}"
            faults.append(Fault(field=field, line=line, column=column, message=message, hint=hint))
    if faults:
        raise PolicyInvalid(f"{source}: " + "; ".join(str(one) for one in faults[:3]), errors=faults)


def _of_the_example_alone(error: str) -> bool:
    """What other facts could make right."""
    return "divide by zero" in error or "Index error" in error


def _placed(policy: OrganisationPolicy) -> Iterator[tuple[str, CustomRule]]:
    for index, rule in enumerate(policy.spec.custom):
        yield f"spec.custom[{index}].expression", rule
    for place, override in enumerate(policy.spec.overrides):
        for index, rule in enumerate(override.custom):
            yield f"spec.overrides[{place}].custom[{index}].expression", rule


def _evaluated(expression: str, facts: dict[str, Any], seconds: float) -> tuple[bool, str | None]:
    """Whether it holds, and why nobody knows."""
    asked = json.dumps({"expression": expression, "facts": facts}).encode()
    try:
        done = run(
            [sys.executable, "-I", _CHILD], timeout=seconds, stdin=asked, max_output=64 * 1024, max_memory=_MEMORY_BYTES
        )
        answer = json.loads(done.stdout)
        if "error" in answer:
            return False, " ".join(str(answer["error"]).split())
        return answer["value"] is True, None
    except GoldsmithError as error:
        return False, error.detail
    except (ValueError, KeyError, TypeError):
        return False, "the evaluation ended without an answer"


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _keys(one)
    elif isinstance(value, list):
        for one in value:
            yield from _keys(one)


def example_facts() -> Facts:
    """Facts of an image that there is none of, with one of each kind of thing."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    digest = "sha256:" + "0" * 64
    paths = Paths(found=(Found(path="/usr/bin/example", package="example"),), total=1)
    severity = Severity.LOW
    return Facts(
        gathered_at=moment,
        reference=f"registry.example/staging/example@{digest}",
        recipe="example",
        scanner=ScannerIdentity(name="trivy", version="0", sha256="0" * 64),
        database=DatabaseIdentity(
            digest=digest, updated_at=moment, next_update=moment, downloaded_at=moment, source="example", sample=False
        ),
        operating_system=OperatingSystem(family="debian", name="13"),
        covered=True,
        findings=Findings(
            vulnerabilities=(
                Vulnerability(
                    id="CVE-2026-0001", package="example", installed="1", fixed="2", severity=severity, status="fixed",
                    target="example", cvss=(Cvss(source="nvd", version="3.1", score=3.1),), references=("https://a",),
                    vendor_ids=("DSA-1-1",),
                ),
            ),
            secrets=(Secret(rule="example", severity=severity, target="/example", line=1),),
            misconfigurations=(
                Misconfiguration(id="DS-0001", title="example", severity=severity, message="", target="example"),
            ),
            licenses=(License(name="MIT", severity=severity, category="notice", confidence=1.0, target="example"),),
        ),
        packages=(Package(name="example", version="1", licenses=("MIT",)),),
        packages_seen=1,
        packages_expected=1,
        image=ImageFacts(
            architecture="amd64", created=moment, user="1:1", uid=1, ports=("8080/tcp",), volumes=("/data",),
            entrypoint="/usr/bin/example", command="serve", labels=("example",), environment=("PATH",), layers=1,
            compressed_bytes=1,
        ),
        files=Files(
            unpacked_bytes=1, setid=paths, world_writable=paths, shells=paths, package_managers=paths,
            ssh_servers=paths, host_keys=paths, private_keys=paths, histories=paths, devices=paths,
        ),
        accounts=(Account(name="root", uid=0, password="locked"),),  # noqa: S106
        base=BaseFacts(recipe="example", digest=digest, suite="trixie", created=moment),
        kept_setuid=("/usr/bin/example",),
        lock_epoch=1,
        updates=(Update(package="example", installed="1", available="2", security=True),),
        tests=(RanTest(name="example", passed=True),),
        hermetic=True,
        reproduced=True,
    )  # fmt: skip
