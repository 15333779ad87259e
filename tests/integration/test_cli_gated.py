"""`goldsmith verify` tells of all that is signed beside an image, and refuses what is not sound or does not agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.image.digests import digest_of
from builder.pipeline.attestations import (
    bill_of_materials,
    recipe_tests,
    references,
    verification_summary,
    vulnerability_scan,
)
from builder.pipeline.evidence import kept
from builder.signing.statement import (
    CYCLONEDX_BOM,
    REFERENCE,
    TEST_RESULT,
    VERIFICATION_SUMMARY,
    VULNERABILITIES,
    Statement,
    Subject,
)
from builder.store.attachments import Kind
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
    golden: Golden, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, dict[str, tuple[bool, str]]]:
    config = tmp_path / "none.json"
    config.write_text("{}")
    code = main(["verify", golden.reference, *golden.trust(), *options, "--json", "--config", str(config)])
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


def subject_of(golden: Golden) -> Subject:
    return Subject.of(str(golden.repository), golden.image.digest)


def whole(golden: Golden) -> dict[str, Statement]:
    """All that a release signs beside its provenance."""
    subject = subject_of(golden)
    bom = bill_of_materials(b'{"bomFormat":"CycloneDX","specVersion":"1.7","components":[{"name":"a"}]}', subject)
    assert bom is not None
    beside = {Kind.INVENTORY: ("application/x-inventory", digest_of(golden.inventory))}
    image = golden.repository.at(golden.image.digest)
    return {
        "signature": Statement.signature(subject.name, golden.image.digest),
        "tests": recipe_tests(BUILD).statement(subject),
        "scan": vulnerability_scan(BUILD, STEPS).statement(subject),
        "gate": verification_summary(BUILD, STEPS, "https://goldsmith.example", image).statement(subject),
        "sbom": bom,
        "references": _without_root(
            references(BUILD, beside, "https://goldsmith.example", "https://r/v2/x").statement(subject)
        ),
    }


def _without_root(statement: Statement) -> Statement:
    """The published provenance names the inventory without its root."""
    told = [
        {name: value for name, value in one.items() if name != "annotations"}
        for one in statement.predicate["references"]  # type: ignore[union-attr]
    ]
    return statement.model_copy(update={"predicate": {**statement.predicate, "references": told}})


def test_everything_that_is_signed_is_told(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = publisher.image("whole")
    golden.sign()
    for statement in whole(golden).values():
        golden.sign(statement)
    code, found = checks(golden, tmp_path, capsys, "--require", "all")
    assert code == 0
    assert {name: found[name][0] for name in whole(golden)} == dict.fromkeys(whole(golden), True)
    assert found["tests"][1].startswith("1 test of the recipe passed")
    assert found["sbom"][1].startswith("CycloneDX 1.7, 1 components")
    assert found["references"][1].startswith("inventory, materials: as in the provenance")


@pytest.mark.parametrize("missing", ["signature", "tests", "scan", "gate", "sbom", "references"])
def test_what_is_required_must_be_there(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    golden = publisher.image(f"without-{missing}")
    golden.sign()
    for name, statement in whole(golden).items():
        if name != missing:
            golden.sign(statement)
    assert checks(golden, tmp_path, capsys)[0] == 0
    code, found = checks(golden, tmp_path, capsys, "--require", missing)
    assert code == 2
    assert found[missing] == (False, found[missing][1])
    assert "that holds is attached" in found[missing][1]


@pytest.mark.parametrize(
    ("name", "kind", "changed", "why"),
    [
        ("tests", TEST_RESULT, {"result": "FAILED"}, "that passed"),
        ("tests", TEST_RESULT, {"failedTests": ["x"]}, "that passed"),
        ("scan", VULNERABILITIES, {"scanner": {}}, "not an in-toto vulnerability predicate"),
        ("sbom", CYCLONEDX_BOM, {"bomFormat": "SPDX"}, "no CycloneDX document"),
        ("sbom", CYCLONEDX_BOM, {"components": None}, "no CycloneDX document"),
        ("references", REFERENCE, {"references": []}, "not an in-toto reference predicate"),
        (
            "references",
            REFERENCE,
            {"references": [{"name": "inventory", "digest": {"sha256": "0" * 64}, "mediaType": "x",
                             "downloadLocation": "https://r"}]},
            "name another inventory than the provenance",
        ),
    ],
)  # fmt: skip
def test_what_is_signed_but_not_sound_is_refused_with_its_own_reason(
    publisher: Publisher,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    kind: str,
    changed: dict[str, object],
    why: str,
) -> None:
    golden = publisher.image(f"unsound-{abs(hash(why + str(changed)))}")
    golden.sign()
    sound = whole(golden)[name]
    assert sound.predicate_type == kind
    golden.sign(
        Statement.model_validate({**sound.model_dump(by_alias=True), "predicate": {**sound.predicate, **changed}})
    )
    code, found = checks(golden, tmp_path, capsys)
    assert code == 2
    assert found[name][0] is False
    assert why in found[name][1]


def test_an_unknown_kind_is_a_mistake_in_the_command(publisher: Publisher, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", publisher.image("mistaken").reference, "--require", "sboms"]) == 64
    assert "'sboms' is none of signature, tests, scan, gate, sbom, references, all" in capsys.readouterr().err
