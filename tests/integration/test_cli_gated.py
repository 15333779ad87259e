"""`goldsmith verify` tells of the signed scan and verdict beside an image, and refuses those that are not sound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.pipeline.attestations import verification_summary, vulnerability_scan
from builder.pipeline.evidence import kept
from builder.signing.statement import VERIFICATION_SUMMARY, Statement, Subject
from builder.store.schema import Build, Step
from tests.integration.published import Golden, Publisher, publishing
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox
from tests.unit.evidence import build_evidence, digest, scan_evidence

STEPS = [Step(name=name, started_at=1e9, finished_at=1e9 + 1) for name in ("scan", "gate")]
BUILD = Build(
    id="0" * 26,
    recipe_digest=digest("1"),
    evidence={"build": kept(build_evidence()), "scan": kept(scan_evidence())},
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def publisher(registry: str, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with publishing(registry, sandbox, tmp_path_factory.mktemp("published")) as found:
        yield found


def checks(
    golden: Golden, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, tuple[bool, str]]]:
    config = tmp_path / "none.json"
    config.write_text("{}")
    code = main(["verify", golden.reference, *golden.trust(), "--json", "--config", str(config)])
    found = json.loads(capsys.readouterr().out)
    return code, {one["name"]: (one["passed"], one["detail"]) for one in found["checks"]}


def test_scan_and_gate_are_told_of_when_they_verify(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = publisher.image("gated")
    subject = Subject.of(str(golden.repository), golden.image.digest)
    golden.sign()
    assert {"scan", "gate"}.isdisjoint(checks(golden, tmp_path, capsys)[1])
    golden.sign(vulnerability_scan(BUILD, STEPS).statement(subject))
    image = golden.repository.at(golden.image.digest)
    golden.sign(verification_summary(BUILD, STEPS, "https://goldsmith.example", image).statement(subject))
    code, found = checks(golden, tmp_path, capsys)
    assert code == 0
    assert found["scan"][0]
    assert "0 known vulnerabilities, version 0.76.0" in found["scan"][1]
    assert found["gate"][0]
    assert found["gate"][1].startswith("PASSED at 2001-09-09")


def test_a_verdict_that_did_not_pass_is_refused(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = publisher.image("stopped")
    golden.sign()
    image = golden.repository.at(golden.image.digest)
    predicate = verification_summary(BUILD, STEPS, "https://goldsmith.example", image).predicate()
    golden.sign(
        Statement(
            subject=(Subject.of(str(golden.repository), golden.image.digest),),
            predicateType=VERIFICATION_SUMMARY,
            predicate={**predicate, "verificationResult": "FAILED"},
        )
    )
    code, found = checks(golden, tmp_path, capsys)
    assert code == 2
    assert found["gate"][0] is False


def test_a_verdict_of_somebody_else_is_not_told_as_ours(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = publisher.image("another")
    golden.sign()
    subject = Subject.of(str(golden.repository), golden.image.digest)
    image = golden.repository.at(golden.image.digest)
    statement = verification_summary(BUILD, STEPS, "https://goldsmith.example", image).statement(subject)
    golden.attest(statement)
    code, found = checks(golden, tmp_path, capsys)
    assert code == 0
    assert "gate" not in found
