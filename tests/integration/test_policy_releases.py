"""A release that the database does not know: the real Trivy finds nothing in it, and the gate does not take that for
health."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.engine.assembly import parse_status
from builder.policy.effective import effective
from builder.policy.gate import evaluate
from builder.policy.organisation import DEFAULT
from builder.policy.policy import Policy
from builder.policy.verdict import RuleResult, Verdict
from builder.scanning.findings import OperatingSystem, ScanResult
from builder.scanning.platforms import buckets, covers
from tests.integration.scanning_server import BOOKWORM, CLEAN, Registry, install, registry, scanner, stanza
from tests.unit.judged import facts


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trivy") / "cache"
    install(directory)
    return directory


def scanned(staging: Registry, cache: Path, release: str) -> ScanResult:
    image = replace(BOOKWORM, release=release, files={}, environment=())
    return scanner(cache).scan(staging.push(f"staging/r{release.replace('.', '-')}", image))


def judged(result: ScanResult, expected: int = 1) -> Verdict:
    return evaluate(
        effective(DEFAULT, "app", Policy(maximum_severity="critical", ignore_unfixed=True, allow_secrets=True)),
        facts(
            gathered_at=result.started_at, reference=result.reference, database=result.database,
            operating_system=result.operating_system,
            covered=result.covered, findings=result.findings, packages=result.packages,
            packages_seen=result.package_count, packages_expected=expected,
        ),
    )  # fmt: skip


def completeness(verdict: Verdict) -> RuleResult:
    return next(rule for rule in verdict.rules if rule.rule == "completeness")


def test_a_known_release_passes(staging: Registry, cache: Path) -> None:
    result = scanned(staging, cache, "12")
    assert result.covered
    assert result.findings.vulnerabilities
    assert judged(result).passed
    assert "debian 12.1, which the database knows" in completeness(judged(result)).explanation


def test_an_unknown_release_has_no_findings_and_does_not_pass(staging: Registry, cache: Path) -> None:
    result = scanned(staging, cache, "99")
    of_debian = [one for one in result.findings.vulnerabilities if one.target_class == "os-pkgs"]
    assert of_debian == [], "else Trivy knows more than it did, and this rule can go"
    assert result.package_count > 0
    assert result.operating_system is not None
    assert result.operating_system.name.startswith("99")
    assert result.covered is False
    assert not judged(result).passed
    assert "no advisories for debian 99" in completeness(judged(result)).explanation


def test_a_release_past_its_end_of_life_does_not_pass(staging: Registry, cache: Path) -> None:
    result = scanned(staging, cache, "8")
    assert result.operating_system is not None
    assert result.operating_system.end_of_life
    assert result.covered is False
    assert not judged(result).passed


def test_the_names_of_releases_are_read_from_the_database(cache: Path) -> None:
    (database,) = cache.glob("databases/current/db/trivy.db")
    names = buckets(database)
    assert {"debian 12", "debian 13", "vulnerability", "data-source"} <= names
    for family, name, known in [
        ("debian", "12.1", True), ("debian", "13", True), ("debian", "14", False), ("ubuntu", "24.04", False),
        ("debian", "", False), ("nobody", "1", False),
    ]:  # fmt: skip
        assert covers(buckets(database), OperatingSystem(family=family, name=name)) is known
    assert covers(buckets(database), OperatingSystem(family="debian", name="12.1", end_of_life=True)) is False
    assert covers(buckets(database), None) is None


def test_a_clean_image_of_a_known_release_passes(staging: Registry, cache: Path) -> None:
    assert judged(scanner(cache).scan(staging.push("staging/clean", CLEAN))).passed


def test_a_package_of_two_architectures_is_one_to_trivy_and_does_not_pass_without_a_word(
    staging: Registry, cache: Path
) -> None:
    native = replace(BOOKWORM, files={}, environment=())
    (first, *_) = native.packages
    status = "".join(stanza(*one) for one in native.packages)
    both = status + stanza(*first).replace("Architecture: amd64", "Architecture: i386")
    image = replace(native, files={"var/lib/dpkg/status": both.encode()})
    expected = len(parse_status(both.encode()))
    assert expected == len(native.packages) + 1
    result = scanner(cache).scan(staging.push("staging/both", image))
    assert result.package_count == expected - 1, "else Trivy tells them apart, and the documents need not mention it"
    verdict = judged(result, expected)
    assert not verdict.passed
    told = completeness(verdict)
    assert f"saw {expected - 1} packages where {expected} or more must be" in told.explanation
    assert "two architectures" in (told.remedy or "")
    assert judged(scanner(cache).scan(staging.push("staging/native", native)), expected - 1).passed
