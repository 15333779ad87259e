"""An exception holds for what its scope names and until it expires, and for nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from builder.policy.exceptions import Justification, PolicyException, Status, expired, matching
from builder.policy.exceptions_purl import PackageUrl
from builder.scanning.findings import Severity, Vulnerability

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "5c" * 32
OTHER = "sha256:" + "ee" * 32
LIBC = "pkg:deb/debian/libc6@2.36-9%2Bdeb12u3?arch=amd64&distro=debian-12"


def exception(**changes: Any) -> PolicyException:
    told = {
        "id": "0" * 26,
        "vulnerability": "CVE-2023-4911",
        "package": "libc6",
        "owner": "security@example.org",
        "reason": "the tunables are not read by any set-uid program of ours",
        "created": NOW - timedelta(days=3),
        "expires": NOW + timedelta(days=30),
    }
    return PolicyException.model_validate(told | changes)


def finding(**changes: Any) -> Vulnerability:
    told: dict[str, Any] = {
        "id": "CVE-2023-4911",
        "package": "libc6",
        "installed": "2.36-9+deb12u3",
        "severity": Severity.HIGH,
        "status": "affected",
        "purl": LIBC,
        "target": "debian",
    }
    return Vulnerability(**told | changes)


def held(one: PolicyException, *, found: Vulnerability | None = None, now: datetime = NOW) -> bool:
    return matching([one], found or finding(), recipe="web", digest=DIGEST, now=now) is one


class TestScope:
    def test_it_holds_for_what_it_names(self) -> None:
        assert held(exception())
        assert held(exception(package=None, recipe="web"))
        assert held(exception(package=None, digest=DIGEST))
        assert held(exception(recipe="web", digest=DIGEST))

    @pytest.mark.parametrize(
        "elsewhere",
        [
            {"vulnerability": "CVE-2023-49110"},
            {"vulnerability": "CVE-2023-491"},
            {"package": "libc-bin"},
            {"package": "libc"},
            {"recipe": "web2"},
            {"recipe": "we"},
            {"digest": OTHER},
            {"recipe": "web", "digest": OTHER},
            {"recipe": "python", "digest": DIGEST},
        ],
    )
    def test_one_part_that_differs_is_enough_for_it_not_to_hold(self, elsewhere: dict[str, str]) -> None:
        assert not held(exception(**elsewhere))

    @pytest.mark.parametrize(
        "purl",
        [
            "pkg:deb/debian/libc6",
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u3",
            "pkg:deb/debian/libc6@2.36-9+deb12u3?arch=amd64",
            "pkg:deb/debian/libc6?distro=debian-12&arch=amd64",
        ],
    )
    def test_a_package_url_names_all_that_it_does_not_exclude(self, purl: str) -> None:
        assert held(exception(package=purl))

    @pytest.mark.parametrize(
        "purl",
        [
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4",
            "pkg:deb/debian/libc6@2.36",
            "pkg:deb/debian/libc6?arch=arm64",
            "pkg:deb/debian/libc6?arch=amd64&distro=debian-13",
            "pkg:deb/ubuntu/libc6",
            "pkg:rpm/debian/libc6",
            "pkg:deb/libc6",
        ],
    )
    def test_a_package_url_of_another_version_architecture_or_kind_names_none(self, purl: str) -> None:
        assert not held(exception(package=purl))

    def test_without_a_package_url_in_the_scan_one_in_the_scope_names_nothing(self) -> None:
        assert not held(exception(package="pkg:deb/debian/libc6"), found=finding(purl=None))

    @pytest.mark.parametrize("nothing", [{"package": None}, {"package": None, "recipe": None, "digest": None}])
    def test_there_is_none_without_a_scope(self, nothing: dict[str, None]) -> None:
        with pytest.raises(ValidationError, match="scope"):
            exception(**nothing)


class TestExpiry:
    def test_it_ends_at_the_very_moment_it_says(self) -> None:
        one = exception()
        assert held(one, now=one.expires - timedelta(microseconds=1))
        assert not held(one, now=one.expires)
        assert not held(one, now=one.expires + timedelta(days=400))

    def test_who_judges_can_tell_which_would_have_held(self) -> None:
        old, older = exception(id="1" * 26), exception(id="2" * 26, expires=NOW - timedelta(days=1))
        elsewhere = exception(recipe="python", expires=NOW - timedelta(days=1))
        later = old.expires + timedelta(days=1)
        assert expired([older, old, elsewhere], finding(), recipe="web", digest=DIGEST, now=later) == (old, older)
        assert expired([old], finding(), recipe="web", digest=DIGEST, now=NOW) == ()

    def test_of_two_that_hold_the_longer_one_is_named(self) -> None:
        short, long = exception(id="1" * 26), exception(id="2" * 26, expires=NOW + timedelta(days=60))
        assert matching([long, short], finding(), recipe="web", digest=DIGEST, now=NOW) is long

    def test_an_expiry_before_its_creation_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="expires"):
            exception(expires=NOW - timedelta(days=4))


class TestForm:
    @pytest.mark.parametrize("lacking", ["owner", "reason", "expires", "vulnerability"])
    def test_nothing_that_somebody_must_answer_for_may_be_missing(self, lacking: str) -> None:
        whole = exception().model_dump(exclude={lacking})
        with pytest.raises(ValidationError, match=lacking):
            PolicyException.model_validate(whole)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"owner": "  "},
            {"reason": ""},
            {"reason": "\x1b[2Jnothing to see"},
            {"vulnerability": "CVE-2023-4911 OR 1"},
            {"vulnerability": "*"},
            {"package": "*"},
            {"package": "pkg:deb"},
            {"package": "pkg:deb/debian/libc6@"},
            {"recipe": "*"},
            {"recipe": "Web"},
            {"digest": "sha256:5c"},
            {"expires": "2026-12-24T12:00:00"},
            {"severity": "LOW"},
            {"status": "under_investigation"},
            {"justification": Justification.MITIGATED, "status": Status.AFFECTED},
        ],
    )
    def test_what_has_not_the_form_is_refused(self, wrong: dict[str, str]) -> None:
        with pytest.raises(ValidationError):
            exception(**wrong)


def test_a_source_package_is_named_as_debian_names_it() -> None:
    installed = PackageUrl.parse(LIBC)
    assert PackageUrl.parse("pkg:deb/debian/glibc?arch=source").names(installed.of_source("glibc"))
    assert not PackageUrl.parse("pkg:deb/debian/glibc?arch=source").names(installed)


def test_names_are_compared_as_their_ecosystem_compares_them() -> None:
    python = PackageUrl.parse("pkg:pypi/typing_extensions@4.0")
    assert PackageUrl.parse("pkg:PyPI/Typing-Extensions").names(python)
    scoped = PackageUrl.parse("pkg:npm/%40angular/core@12.3.1")
    assert PackageUrl.parse("pkg:npm/@angular/core").names(scoped)
    assert not PackageUrl.parse("pkg:npm/core").names(scoped)
