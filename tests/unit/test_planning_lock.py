"""The lock names every input exactly, in the words that other tools understand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from packageurl import PackageURL
from pydantic import ValidationError

from builder.planning.lock import Lock, LockedPackage
from builder.planning.mirrors import KEYRING, Mirrors, MirrorUnknown, find_mirrors
from tests.unit.locks import NAMES, VERSIONS, lock, locks, package


@given(locks())
def test_a_lock_is_the_same_after_json(made: Lock) -> None:
    assert Lock.model_validate_json(made.model_dump_json(by_alias=True)) == made
    assert Lock.model_validate(made.model_dump(mode="json")) == made


def test_the_digest_of_a_lock_is_of_what_it_says_and_of_nothing_else() -> None:
    again = Lock.model_validate_json(lock().model_dump_json())
    assert again.digest == lock().digest
    assert lock().digest == "sha256:" + hashlib.sha256(lock().canonical()).hexdigest()
    assert json.loads(lock().canonical())["version"] == 1
    assert lock(epoch=1).digest != lock().digest


def test_a_file_name_has_no_epoch_in_it() -> None:
    assert package("g++", "4:12.2.0-3+b1").filename == "g++_12.2.0-3+b1_amd64.deb"
    assert package("g++", "12.2.0").filename == "g++_12.2.0_amd64.deb"


def test_the_bases_own_packages_come_first() -> None:
    assert [one.name for one in lock().all_packages] == ["apt", "libc6", "hello"]


def test_a_lock_with_a_word_too_many_is_refused() -> None:
    text = package().model_dump_json(by_alias=True)
    with pytest.raises(ValidationError):
        LockedPackage.model_validate_json(text[:-1] + ', "extra": 1}')


def test_a_lock_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        package().sha256 = "f" * 64


@given(NAMES, VERSIONS)
def test_the_package_url_is_the_canonical_one(name: str, version: str) -> None:
    url = package(name, version).purl
    parsed = PackageURL.from_string(url)
    assert (parsed.type, parsed.namespace, parsed.name, parsed.version) == ("deb", "debian", name, version)
    assert parsed.qualifiers == {"arch": "amd64"}
    assert parsed.to_string() == url


def test_the_package_url_of_an_epoch_and_a_plus() -> None:
    assert package("g++", "4:12.2.0-3+b1").purl == "pkg:deb/debian/g%2B%2B@4:12.2.0-3%2Bb1?arch=amd64"


class TestSources:
    mirrors = Mirrors("http://mirror.example/debian", "http://mirror.example/security")

    def test_of_a_release_have_its_updates_and_its_security_updates(self) -> None:
        assert self.mirrors.sources("trixie", ["main", "contrib"]).splitlines() == [
            f"deb [signed-by={KEYRING}] http://mirror.example/debian trixie main contrib",
            f"deb [signed-by={KEYRING}] http://mirror.example/debian trixie-updates main contrib",
            f"deb [signed-by={KEYRING}] http://mirror.example/security trixie-security main contrib",
        ]

    @pytest.mark.parametrize("suite", ["sid", "unstable", "experimental"])
    def test_of_a_rolling_suite_have_neither(self, suite: str) -> None:
        assert self.mirrors.sources(suite, ["main"]).splitlines() == [
            f"deb [signed-by={KEYRING}] http://mirror.example/debian {suite} main"
        ]

    def test_are_the_settings_when_both_are_set(self) -> None:
        assert find_mirrors("http://a.example/d/", "http://b.example/s/") == Mirrors(
            "http://a.example/d", "http://b.example/s"
        )

    def test_leave_to_the_host_what_is_not_set(self) -> None:
        own = find_mirrors(None, None)
        assert find_mirrors("http://a.example/d", None) == Mirrors("http://a.example/d", own.security)
        assert own.main
        assert own.main != own.security

    def test_without_apt_and_settings_are_asked_for(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(MirrorUnknown) as caught:
            find_mirrors("http://a.example/d", None)
        assert "GOLDSMITH_DEBIAN_SECURITY_MIRROR" in (caught.value.hint or "")
