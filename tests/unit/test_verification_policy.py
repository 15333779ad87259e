"""A verification policy says what it expects; a mistake in one is told by line, and each expectation can fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builder.signing.slsa import BuildDefinition, Builder, Provenance, ResourceDescriptor, RunDetails
from builder.signing.statement import Statement, Subject
from builder.signing.verification import VerifiedStatement
from builder.signing.vsa import SummaryVerifier, VerificationSummary
from builder.verification.expected import Expected, expectations
from builder.verification.policy import (
    VerificationPolicyInvalid,
    read_verification_policy,
    verification_policy_from_data,
)
from tests.unit.evidence import digest

HEAD = "apiVersion: goldsmith/v1\nkind: VerificationPolicy\nmetadata: {name: production}\n"
NOW = datetime(2026, 3, 31, tzinfo=UTC)
SUBJECT = Subject.of("registry.example/web", digest("a"))
RECIPE = {"metadata": {"name": "web", "source": "https://git.example/team/web"}}


def provenance(**changed: Any) -> Provenance:
    internal = {"requester": "ci", "hermetic": True, **changed}
    return Provenance(
        build_definition=BuildDefinition(
            build_type="urn:goldsmith:build:v1",
            external_parameters={"recipe": RECIPE},
            internal_parameters={name: value for name, value in internal.items() if value is not None},
        ),
        run_details=RunDetails(builder=Builder(id="https://goldsmith.example/builder/one")),
    )


def verdict(policy: str) -> Statement:
    return VerificationSummary(
        verifier=SummaryVerifier(id="https://goldsmith.example"),
        time_verified=NOW,
        resource_uri="registry.example/web",
        policy=ResourceDescriptor(uri="urn:policy", digest={"sha256": policy.removeprefix("sha256:")}),
    ).statement(SUBJECT)


SIGNED = VerifiedStatement(
    statement=provenance().statement(SUBJECT),
    identity="https://goldsmith.example/release",
    issuer="https://issuer.example",
    log_index=7,
    integrated_time=NOW - timedelta(days=10),
    sandbox=False,
)


def checks(
    expected: Expected, signed: VerifiedStatement = SIGNED, *beside: Statement, **internal: Any
) -> dict[str, tuple[bool, str]]:
    others = [replace(SIGNED, statement=one) for one in beside]
    found = expectations(replace(expected, now=lambda: NOW), signed, provenance(**internal), [signed, *others])
    return {one.name: (one.passed, one.detail) for one in found}


def test_nothing_is_expected_by_default() -> None:
    assert checks(Expected()) == {}


@pytest.mark.parametrize(
    ("name", "holds", "fails", "why"),
    [
        ("expected builder", Expected(builders=["https://goldsmith.example/*"]), Expected(builders=["urn:x"]), "urn:x"),
        ("build type", Expected(build_types=["urn:goldsmith:*"]), Expected(build_types=["urn:other"]), "urn:other"),
        ("expected recipe", Expected(recipes=["w*b"]), Expected(recipes=["w?b", "[w]eb"]), "expected is w?b or [w]eb"),
        ("expected recipe", Expected(recipes=["api", "web"]), Expected(recipes=["we"]), "web; expected is we"),
        ("expected source", Expected(sources=["https://git.example/team/*"]), Expected(sources=["https://x/*"]), "x/"),
        ("requester", Expected(requesters=["ci"]), Expected(requesters=["CI", "c"]), "expected is CI or c"),
        ("age", Expected(max_age=timedelta(days=10)), Expected(max_age=timedelta(days=9)), "10.0 days; at most 9"),
    ],
)
def test_each_expectation_holds_or_says_why_not(name: str, holds: Expected, fails: Expected, why: str) -> None:
    assert list(checks(holds)) == [name]
    assert checks(holds)[name][0]
    passed, detail = checks(fails)[name]
    assert not passed
    assert why in detail


def test_what_the_provenance_does_not_tell_is_not_as_expected() -> None:
    assert checks(Expected(requesters=["*"]), requester=None) == {
        "requester": (False, "the provenance tells none; expected is *")
    }
    assert not checks(Expected(hermetic=True), hermetic=None)["hermetic"][0]
    assert not checks(Expected(max_age=timedelta(days=1)), replace(SIGNED, integrated_time=None))["age"][0]


def test_an_image_built_with_a_network_is_not_hermetic() -> None:
    assert checks(Expected(hermetic=True))["hermetic"][0]
    assert checks(Expected(hermetic=True), hermetic=False)["hermetic"] == (
        False,
        "a step of it had a network or a secret",
    )


def test_a_signature_from_the_future_has_no_age() -> None:
    signed = replace(SIGNED, integrated_time=NOW + timedelta(hours=1))
    passed, detail = checks(Expected(max_age=timedelta(days=1)), signed)["age"]
    assert not passed
    assert "yet to come" in detail


def test_a_sandbox_is_refused_where_it_will_not_do() -> None:
    assert checks(Expected(no_sandbox=True))["real signature"][0]
    assert not checks(Expected(no_sandbox=True), replace(SIGNED, sandbox=True))["real signature"][0]


def test_a_sandbox_may_not_have_signed_what_is_beside_it_either() -> None:
    verdict_of_sandbox = replace(SIGNED, statement=verdict(digest("1")), sandbox=True)
    found = list(expectations(Expected(no_sandbox=True), SIGNED, provenance(), [SIGNED, verdict_of_sandbox]))
    assert [one.passed for one in found] == [False]
    assert "verification_summary" in found[0].detail


def test_the_gate_judged_by_one_of_the_policies() -> None:
    expected = Expected(gate_policies=[digest("1"), digest("2")])
    assert checks(expected, SIGNED, verdict(digest("2")))["gate policy"] == (True, digest("2"))
    passed, detail = checks(expected, SIGNED, verdict(digest("3")))["gate policy"]
    assert not passed
    assert digest("3") in detail
    assert checks(expected)["gate policy"][1].startswith("no verdict that holds is attached")


def test_a_whole_policy_is_read() -> None:
    policy = read_verification_policy(
        HEAD + "spec:\n  signers: [{identity: a@b.example, issuer: 'https://i.example'}]\n  require: [sbom, gate]\n"
        "  maxAgeDays: 30\n  hermetic: true\n  recipes: ['web*']\n"
    )
    expected = policy.expected()
    assert [one.identity for one in policy.signatories] == ["a@b.example"]
    assert (list(expected.required), expected.max_age, expected.hermetic) == (
        ["sbom", "gate"],
        timedelta(days=30),
        True,
    )
    assert expected.no_sandbox, "a sandbox will not do unless the policy says so"


def test_all_is_every_kind() -> None:
    assert len(read_verification_policy(HEAD + "spec: {require: [all]}").expected().required) == 6


@pytest.mark.parametrize(
    ("spec", "field", "line", "says"),
    [
        ("{hermtic: true}", "spec.hermtic", 4, "did you mean 'hermetic'"),
        ("{require: [sboms]}", "spec.require[0]", 4, "must be"),
        ("{maxAgeDays: 0}", "spec.maxAgeDays", 4, "greater than or equal to 1"),
        ("{maxAgeDays: '7'}", "spec.maxAgeDays", 4, "integer"),
        ("{gatePolicies: []}", "spec.gatePolicies", 4, "at least 1 item"),
        ("{recipes: []}", "spec.recipes", 4, "at least 1 item"),
        ("{gatePolicies: [abc]}", "spec.gatePolicies[0]", 4, "does not match"),
        ("{ledgerKeys: [abc]}", "spec.ledgerKeys[0]", 4, "goldsmith ledger key show"),
        ("{signers: [{identity: x}]}", "spec.signers[0].issuer", 4, "is required"),
        ("{signers: [{identity: '', issuer: x}]}", "spec.signers[0].identity", 4, "at least 1 character"),
        ("{allowSandbox: perhaps}", "spec.allowSandbox", 4, "true or false"),
    ],
)
def test_a_mistake_is_told_with_its_place(spec: str, field: str, line: int, says: str) -> None:
    with pytest.raises(VerificationPolicyInvalid) as refused:
        read_verification_policy(HEAD + "spec: " + spec, source="p.yaml")
    fault = refused.value.errors[0]
    assert (fault.field, fault.line) == (field, line)
    assert says in str(fault)
    assert refused.value.detail.startswith("p.yaml: ")


def test_one_that_came_as_json_has_no_lines() -> None:
    with pytest.raises(VerificationPolicyInvalid) as refused:
        verification_policy_from_data({"apiVersion": "goldsmith/v1", "kind": "Policy", "metadata": {"name": "x"}})
    assert [(one.field, one.line) for one in refused.value.errors] == [("kind", None)]


@pytest.mark.parametrize("data", [None, [], "x", 1, {"a": [[]] * 3}])
def test_what_is_no_policy_is_refused(data: object) -> None:
    with pytest.raises(VerificationPolicyInvalid):
        verification_policy_from_data(data)
