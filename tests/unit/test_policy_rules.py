"""Each rule at its border: it passes just inside and fails just outside, and says what would make it pass."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from builder.policy.demands import Demands
from builder.policy.facts import Account, BaseFacts, Files, ImageFacts, RanTest, Update
from builder.policy.rules import RULES
from builder.scanning.findings import Findings, License, Misconfiguration, Package, Secret, Severity, Vulnerability
from scripts.generate_docs import DOCS
from tests.unit.judged import DATABASE, NOW, PACKAGES, facts, judge, paths

Case = tuple[str, dict[str, object], dict[str, Any], dict[str, Any]]


def files(**kinds: Any) -> dict[str, Any]:
    return {"files": Files(**{"unpacked_bytes": 3000, **kinds})}


def image(**changes: Any) -> dict[str, Any]:
    return {"image": ImageFacts(**{"architecture": "amd64", "compressed_bytes": 1000, "uid": 1, **changes})}


def database(**changes: Any) -> dict[str, Any]:
    return {"database": DATABASE.model_copy(update=changes)}


def found(severity: Severity, fixed: str | None) -> dict[str, Any]:
    one = Vulnerability(
        id="CVE-1", package="a", installed="1", fixed=fixed, severity=severity, status="affected", target="t"
    )
    return {"findings": Findings(vulnerabilities=(one,))}


def mistake(severity: Severity, identifier: str = "DS-0002") -> dict[str, Any]:
    one = Misconfiguration(id=identifier, title="t", severity=severity, message="m", target="t")
    return {"findings": Findings(misconfigurations=(one,))}


def packaged(*licenses: str, name: str = "a", source: str | None = None) -> dict[str, Any]:
    one = Package(name=name, version="1", source_package=source, licenses=licenses)
    return {"packages": (one,), "packages_seen": 1, "packages_expected": 1}


def update(*, security: bool) -> Update:
    return Update(package="openssl", installed="1", available="2", security=security)


def account(**changes: Any) -> dict[str, Any]:
    return {"accounts": (Account(**{"name": "app", "uid": 1, "password": "locked", **changes}),)}


SECRET = {"findings": Findings(secrets=(Secret(rule="key", severity=Severity.LOW, target="/k", line=1),))}
SSHD, SU = "/usr/sbin/sshd", "/usr/bin/su"

CASES: list[Case] = [
    ("completeness", {}, {"packages_seen": 90, "packages_expected": 90},
     {"packages_seen": 89, "packages_expected": 90}),
    ("completeness", {}, {"covered": True}, {"covered": False}),
    ("completeness", {}, {"covered": None, "packages_expected": 0}, {"covered": None, "packages_expected": 1}),
    ("database", {"maximumAgeHours": 24}, database(updated_at=NOW - timedelta(hours=24)),
     database(updated_at=NOW - timedelta(hours=24, seconds=1))),
    ("database", {}, database(stale=False), database(stale=True)),
    ("database", {}, database(updated_at=NOW + timedelta(days=1)),
     database(updated_at=NOW + timedelta(days=1, seconds=1))),
    ("vulnerabilities", {"maximumSeverity": "medium"}, found(Severity.MEDIUM, "2"), found(Severity.HIGH, "2")),
    ("vulnerabilities", {"maximumSeverity": "low", "maximumSeverityUnfixed": "high"}, found(Severity.HIGH, None),
     found(Severity.HIGH, "2")),
    ("vulnerabilities", {"maximumSeverity": "high", "maximumSeverityUnfixed": "low"}, found(Severity.HIGH, "2"),
     found(Severity.HIGH, None)),
    ("updates", {}, {"updates": (update(security=False),)}, {"updates": (update(security=True),)}),
    ("updates", {"securityOnly": False}, {"updates": ()}, {"updates": (update(security=False),)}),
    ("updates", {"maximum": 1}, {"updates": (update(security=True),)}, {"updates": (update(security=True),) * 2}),
    ("updates", {}, {"updates": ()}, {"updates": None}),
    ("secrets", {}, {}, SECRET),
    ("secrets", {}, {}, mistake(Severity.LOW, "DS-0031")),
    ("misconfiguration", {"maximumSeverity": "low"}, mistake(Severity.LOW), mistake(Severity.MEDIUM)),
    ("misconfiguration", {"maximumSeverity": "none", "ignore": ["DS-0002"]}, mistake(Severity.HIGH),
     mistake(Severity.HIGH, "DS-0003")),
    ("setuid", {"allowed": [SU]}, files(setid=paths(SU)), files(setid=paths(SU, "/usr/bin/mount"))),
    ("setuid", {"allowKept": True}, {"kept_setuid": (SU,), **files(setid=paths(SU))}, files(setid=paths(SU))),
    ("setuid", {}, {"kept_setuid": (SU,), **files()}, {"kept_setuid": (SU,), **files(setid=paths(SU))}),
    ("worldWritable", {"allowed": ["/srv/*"]}, files(world_writable=paths("/srv/a")),
     files(world_writable=paths("/opt/a"))),
    ("accounts", {}, account(), account(password="set")),
    ("accounts", {}, account(), account(password="empty")),
    ("accounts", {"shells": ["root"]}, account(shell="/usr/sbin/nologin"), account(shell="/bin/sh")),
    ("accounts", {"shells": ["app"]}, account(shell="/bin/sh"), account(name="other", shell="/bin/sh")),
    ("user", {}, image(uid=1), image(uid=0)),
    ("user", {"minimumUid": 10000}, image(uid=10000), image(uid=9999)),
    ("user", {}, image(uid=1), image(uid=None, user="nobody-knows")),
    ("sshServers", {}, files(), files(ssh_servers=paths(SSHD))),
    ("sshServers", {"allowed": [SSHD]}, files(ssh_servers=paths(SSHD)), files(host_keys=paths("/etc/ssh/k"))),
    ("keys", {"allowed": ["/a"]}, files(private_keys=paths("/a")), files(private_keys=paths("/b"))),
    ("histories", {"allowed": ["/a"]}, files(histories=paths("/a")), files(histories=paths("/b"))),
    ("devices", {"allowed": ["/a"]}, files(devices=paths("/a")), files(devices=paths("/b"))),
    ("shells", {"allowed": ["/a"]}, files(shells=paths("/a")), files(shells=paths("/b"))),
    ("packageManagers", {"allowed": ["/a"]}, files(package_managers=paths("/a")), files(package_managers=paths("/b"))),
    ("healthcheck", {}, image(healthcheck=True), image(healthcheck=False)),
    ("licenses", {"deny": ["AGPL-*"]}, packaged("GPL-2.0-only"), packaged("AGPL-3.0-only")),
    ("licenses", {"deny": ["AGPL-*"]}, packaged("MIT OR AGPL-3.0-only"), packaged("MIT AND AGPL-3.0-only")),
    ("licenses", {"allow": ["MIT"]}, packaged("mit"), packaged("MIT", "X11")),
    ("licenses", {"unknown": "allow"}, packaged(), packaged() | {"packages_seen": 2}),
    ("licenses", {}, packaged("MIT"), packaged()),
    ("packages", {"deny": ["telnet*"]}, packaged(name="tel"), packaged(name="telnetd")),
    ("packages", {"deny": ["openssl"]}, packaged(), packaged(name="libssl3", source="openssl")),
    ("packages", {"allow": ["a"]}, packaged(name="a"), packaged(name="b")),
    ("packages", {"allow": ["a"]}, packaged(name="a"), packaged(name="a") | {"packages_seen": 2}),
    ("base", {"allow": ["recipe:debian"]}, {}, {"base": BaseFacts(suite="trixie")}),
    ("base", {"deny": ["image:*"]}, {"base": BaseFacts(suite="trixie")}, {"base": BaseFacts(image="x/y@sha256:0")}),
    ("baseAge", {"maximumDays": 30}, {"base": BaseFacts(created=NOW - timedelta(days=30))},
     {"base": BaseFacts(created=NOW - timedelta(days=30, seconds=1))}),
    ("baseAge", {}, {"base": BaseFacts(created=NOW + timedelta(days=1))},
     {"base": BaseFacts(created=NOW + timedelta(days=1, seconds=1))}),
    ("imageSize", {"maximumCompressedBytes": 1000}, image(), image(compressed_bytes=1001)),
    ("imageSize", {"maximumUnpackedBytes": 3000}, files(), files(unpacked_bytes=3001)),
    ("tests", {"minimum": 2}, {"tests": (RanTest(name="a", passed=True),) * 2},
     {"tests": (RanTest(name="a", passed=True),)}),
    ("tests", {}, {}, {"tests": ()}),
    ("hermetic", {}, {"hermetic": True}, {"hermetic": False}),
    ("reproducible", {}, {"reproduced": True}, {"reproduced": False}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parameters", "inside", "outside"), CASES)
def test_it_passes_just_inside_and_fails_just_outside(
    name: str, parameters: dict[str, object], inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    passed, failed = judge(name, parameters, **inside), judge(name, parameters, **outside)
    assert passed.passed, passed.explanation
    assert not failed.passed, failed.explanation
    assert passed.remedy is None
    assert failed.remedy
    assert all(one.remedy for one in failed.offenders)
    assert failed.explanation.endswith(".")


def test_every_rule_has_a_border_that_is_tested() -> None:
    assert {case[0] for case in CASES} == set(RULES)


UNKNOWN = [
    ("updates", "updates"), ("setuid", "files"), ("worldWritable", "files"), ("accounts", "accounts"),
    ("user", "image"), ("sshServers", "files"), ("keys", "files"), ("histories", "files"), ("devices", "files"),
    ("shells", "files"), ("packageManagers", "files"), ("healthcheck", "image"), ("base", "base"),
    ("baseAge", "base"), ("hermetic", "hermetic"), ("reproducible", "reproduced"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fact"), UNKNOWN)
def test_what_nobody_has_looked_at_fails(name: str, fact: str) -> None:
    result = judge(name, **{fact: None})
    assert not result.passed
    assert "Nobody has looked at" in result.explanation
    assert result.remedy


def test_a_size_that_nobody_knows_fails_where_it_has_a_limit() -> None:
    assert not judge("imageSize", {"maximumUnpackedBytes": 1}, files=None).passed
    assert judge("imageSize", {"maximumCompressedBytes": 1000}, files=None).passed


@pytest.mark.parametrize("name", ["setuid", "worldWritable", "sshServers", "keys", "histories", "devices", "shells"])
def test_paths_beyond_those_listed_count_though_the_listed_ones_are_allowed(name: str) -> None:
    kinds = {
        "setuid": "setid", "worldWritable": "world_writable", "sshServers": "ssh_servers", "keys": "private_keys",
    }  # fmt: skip
    many = paths("/a", unlisted=1)
    assert not judge(name, {"allowed": ["/a"]}, **files(**{kinds.get(name, name): many})).passed


def test_a_stale_database_passes_with_a_warning_where_the_policy_says_so() -> None:
    result = judge(
        "database", {"whenStale": "warn", "maximumAgeHours": 1}, **database(updated_at=NOW.replace(year=2025))
    )
    assert result.passed
    assert result.explanation.startswith("WARNING")


def test_an_unknown_release_is_named() -> None:
    result = judge("completeness", covered=False)
    assert "no advisories for debian 13" in result.explanation
    assert result.offenders[0].id == "unknown-release"


def test_packages_of_a_system_that_does_not_say_what_it_is_fail() -> None:
    installed = tuple(one.model_copy(update={"target_class": "os-pkgs"}) for one in PACKAGES)
    changes: dict[str, Any] = {"covered": None, "operating_system": None, "packages_expected": 0}
    assert not judge("completeness", packages=installed, **changes).passed
    assert judge("completeness", **changes).passed


def test_a_licence_finding_alone_is_no_packages_licence() -> None:
    text = License(name="AGPL-3.0", severity=Severity.HIGH, category="forbidden", confidence=1.0, target="t")
    assert judge("licenses", {"deny": ["AGPL*"]}, findings=Findings(licenses=(text,))).passed


def test_no_rule_knows_a_parameter_without_an_order_of_strictness() -> None:
    from builder.policy.strictness import order_of

    for rule in RULES.values():
        for name in rule.parameters.model_fields:
            assert order_of(rule.parameters, name).told


def test_each_rule_can_be_named_in_a_policy_and_explains_itself_on_a_page() -> None:
    fields = {one.alias for one in Demands.model_fields.values()}
    assert fields == set(RULES)
    for rule in RULES.values():
        assert re.fullmatch(r"[a-z][A-Za-z]+", rule.name)
        page = (DOCS / rule.page).read_text()
        assert rule.title in page
        assert rule.parameters.model_validate(rule.example)
        for name, one in rule.parameters.model_fields.items():
            assert f"`{one.alias or name}`" in page


def test_facts_survive_being_stored() -> None:
    whole = facts()
    assert type(whole).model_validate_json(whole.to_bytes()) == whole
    assert whole.digest == type(whole).model_validate_json(whole.to_bytes()).digest
