"""What Goldsmith itself is made of is pinned: every library by hash, every action and image by what cannot move."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.own_sbom import read_lock

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-audit.lock"]


def stanzas(name: str) -> dict[str, str]:
    """Each requirement with what belongs to it."""
    text = re.sub(r"\\\n", " ", (ROOT / name).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {line.split("==")[0].strip().lower(): line for line in lines}


@pytest.mark.parametrize("name", LOCKS)
def test_every_library_is_pinned_by_version_and_hash(name: str) -> None:
    found = stanzas(name)
    assert len(found) > 20
    loose = [one for one, line in found.items() if not re.search(r"==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]
    assert loose == []


@pytest.mark.parametrize("name", LOCKS)
def test_none_comes_from_elsewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"(?m)^\s*(-e|--editable|--index-url|--extra-index-url|--find-links|--trusted-host)|://", text)


@pytest.mark.parametrize(("wanted", "lock"), [(lock.replace(".lock", ".in"), lock) for lock in LOCKS])
def test_what_is_asked_for_is_locked(wanted: str, lock: str) -> None:
    asked = re.findall(r"(?m)^([A-Za-z0-9][A-Za-z0-9_.-]*)", (ROOT / wanted).read_text())
    locked = {re.sub(r"[-_.]+", "-", name.partition("[")[0]) for name in stanzas(lock)}
    assert [name for name in asked if re.sub(r"[-_.]+", "-", name.lower()) not in locked] == []


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/imaging/package.py", "scripts/audit"])
def test_installing_demands_the_hashes(script: str) -> None:
    assert "--require-hashes" in (ROOT / script).read_text()


class TestOurBillOfMaterials:
    @pytest.fixture(scope="class")
    def document(self) -> str:
        done = subprocess.run([ROOT / "scripts/sbom"], check=True, capture_output=True, text=True, timeout=60)
        return done.stdout

    def test_is_valid_for_the_formats_own_validator(self, document: str) -> None:
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None

    def test_has_every_library_with_its_version_and_hashes(self, document: str) -> None:
        components = json.loads(document)["components"]
        locked = stanzas(LOCKS[0])
        assert {one["name"] for one in components} == {name.partition("[")[0] for name in locked}
        for one in components:
            hashes = {each["content"] for each in one["hashes"]}
            line = next(line for name, line in locked.items() if name.partition("[")[0] == one["name"])
            assert hashes == set(re.findall(r"sha256:([0-9a-f]{64})", line))
            assert f"=={one['version']} " in line

    def test_says_who_needs_whom_and_under_which_licence(self, document: str) -> None:
        found = json.loads(document)
        needs = {one["ref"].partition("@")[0]: one.get("dependsOn", []) for one in found["dependencies"]}
        asked = re.findall(r"(?m)^([a-z0-9-]+)", (ROOT / "requirements.in").read_text())
        assert sorted(ref.removeprefix("pkg:pypi/").partition("@")[0] for ref in needs["goldsmith"]) == sorted(asked)
        assert any(ref.startswith("pkg:pypi/starlette@") for ref in needs["pkg:pypi/fastapi"])
        (fastapi,) = [one for one in found["components"] if one["name"] == "fastapi"]
        assert fastapi["licenses"] == [{"license": {"id": "MIT"}}]

    def test_a_scanner_reads_all_of_it(self, document: str, tmp_path: Path) -> None:
        (tmp_path / "own.cdx.json").write_text(document)
        trivy = [
            Path(sys.executable).with_name("trivy"), "sbom", "--quiet", "--offline-scan", "--skip-version-check",
            "--disable-telemetry", "--cache-dir", tmp_path / "cache", "--scanners", "license", "--format", "json",
        ]  # fmt: skip
        done = subprocess.run([*trivy, tmp_path / "own.cdx.json"], check=True, capture_output=True, timeout=60)
        (result,) = [one for one in json.loads(done.stdout)["Results"] if one.get("Packages")]
        assert len(result["Packages"]) == len(json.loads(document)["components"])

    def test_a_line_that_is_no_requirement_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"line 2: .* is no requirement"):
            read_lock("a==1 \\\n-e ../b\n")


class TestAuditing:
    """Elsewhere than here, with programs in place of those that ask somebody."""

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Path:
        (tmp_path / "scripts").mkdir()
        shutil.copy(ROOT / "scripts/audit", tmp_path / "scripts/audit")
        (tmp_path / "requirements-audit.lock").write_text("pip-audit==1\n")
        return tmp_path

    def audit(self, elsewhere: Path, python: str) -> subprocess.CompletedProcess[str]:
        program(elsewhere / "bin/python3", python)
        path = f"{elsewhere / 'bin'}:/usr/bin:/bin"
        return subprocess.run(
            [elsewhere / "scripts/audit"], env={"PATH": path}, capture_output=True, text=True, timeout=60, check=False
        )

    @pytest.mark.parametrize(
        ("python", "why"),
        [
            ("echo no ensurepip; exit 1", "no environment for pip-audit can be made, .*: no ensurepip"),
            (
                'mkdir -p "$4/bin"; printf "#!/bin/sh\\necho no answer >&2; exit 1" >"$4/bin/pip"\n'
                'chmod +x "$4/bin/pip"',
                "pip-audit cannot be installed, .*: no answer",
            ),
        ],
    )
    def test_that_cannot_begin_is_not_told_as_a_hole(self, elsewhere: Path, python: str, why: str) -> None:
        done = self.audit(elsewhere, python)
        assert done.returncode == 2
        assert re.search(f"audit: {why}", done.stderr)

    @pytest.mark.parametrize(
        ("said", "code"), [("Found 1 known vulnerability in 1 package", 1), ("a service is away", 2)]
    )
    def test_tells_a_hole_from_no_answer(self, elsewhere: Path, said: str, code: int) -> None:
        tool = elsewhere / ".goldsmith/audit-tool"
        program(tool / "bin/pip-audit", f"echo {said}; exit 1")
        shutil.copy(elsewhere / "requirements-audit.lock", tool / "installed")
        done = self.audit(elsewhere, "exit 3")
        assert done.returncode == code
        assert said in done.stdout + done.stderr


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_nothing_is_fetched_and_run_unread() -> None:
    fetching = re.compile(r"(curl|wget)[^\n]*\|\s*(sudo\s+)?(ba)?sh")
    found = [
        path
        for path in ROOT.glob("scripts/**/*")
        if path.is_file() and fetching.search(path.read_text("utf-8", "replace"))
    ]
    assert found == []
