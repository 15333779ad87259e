"""The provenance of a build: official models read it, every input is in it by digest, nothing is made up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import resource_descriptor, statement_pb2
from in_toto_attestation.v1.statement import Statement as OfficialStatement
from packageurl import PackageURL
from pydantic import ValidationError

from builder.pipeline.evidence import kept
from builder.pipeline.provenance import BUILD_TYPE, provenance
from builder.planning.lock import Lock
from builder.signing.statement import SLSA_PROVENANCE, Subject
from builder.store.schema import Build, Step
from tests.unit.evidence import build_evidence, digest, lock, scan_evidence

BUILDER = "https://goldsmith.example/builder/1"
LOG = digest("f")
RECIPE = {"apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": "web"}}
STEPS = [
    Step(name="resolve", started_at=100.0, finished_at=101.5),
    Step(name="run", started_at=102.0, finished_at=160.25),
]


def build(used: Lock | None = None) -> Build:
    return Build(
        id="0" * 26,
        recipe=json.dumps(RECIPE),
        recipe_digest=digest("1"),
        requester="ci",
        attempt=2,
        options={},
        evidence={"build": kept(build_evidence(used=used)), "scan": kept(scan_evidence())},
    )


def predicate(used: Lock | None = None) -> dict[str, Any]:
    return provenance(build(used), STEPS, BUILDER, LOG).predicate()


def test_the_official_models_read_the_whole_statement() -> None:
    made = provenance(build(), STEPS, BUILDER, LOG).statement(Subject.of("registry.example/golden/web", digest("a")))
    statement = OfficialStatement.copy_from_pb(json_format.Parse(made.canonical(), statement_pb2.Statement()))
    statement.validate()
    assert statement.pb.predicate_type == SLSA_PROVENANCE
    assert statement.pb.subject[0].digest["sha256"] == "a" * 64
    official = json_format.ParseDict(json.loads(made.canonical())["predicate"], provenance_pb2.Provenance())
    for found in (*official.build_definition.resolved_dependencies, *official.run_details.byproducts):
        resource_descriptor.ResourceDescriptor.copy_from_pb(found).validate()


def test_it_says_what_was_asked_by_whom_and_who_built_it_when() -> None:
    found = predicate()
    definition, details = found["buildDefinition"], found["runDetails"]
    assert definition["buildType"] == BUILD_TYPE
    assert definition["externalParameters"] == {"recipe": RECIPE, "recipeDigest": digest("1")}
    assert definition["internalParameters"]["requester"] == "ci"
    assert definition["internalParameters"]["sourceDateEpoch"] == 1_700_000_000
    assert not set(definition["externalParameters"]) & set(definition["internalParameters"])
    assert details["builder"]["id"] == BUILDER
    assert details["metadata"] == {
        "invocationId": f"urn:goldsmith:build:{'0' * 26}",
        "startedOn": "1970-01-01T00:01:40Z",
        "finishedOn": "1970-01-01T00:02:40Z",
    }


def test_a_lock_that_was_brought_is_among_what_was_chosen_from_outside() -> None:
    one = build()
    one.evidence = {**one.evidence, "build": kept(build_evidence(given=True))}
    definition = provenance(one, STEPS, BUILDER, LOG).build_definition
    assert definition.external_parameters["lock"] == lock().digest


def test_without_steps_it_makes_up_no_times() -> None:
    details = provenance(build(), [], BUILDER, LOG).predicate()["runDetails"]
    assert isinstance(details, dict)
    assert set(details["metadata"]) == {"invocationId"}


def dependencies(used: Lock) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = predicate(used)["buildDefinition"]["resolvedDependencies"]
    return found


def test_every_input_is_named_by_digest() -> None:
    found = dependencies(lock())
    assert [(one["name"], one["digest"]) for one in found] == [
        ("lock", {"sha256": lock().digest.removeprefix("sha256:")}),
        ("libc6", {"sha256": "e" * 64}),
        ("nginx-light", {"sha256": "e" * 64}),
        ("/etc/motd", {"sha256": "d" * 64}),
    ]
    deb = PackageURL.from_string(found[2]["uri"])
    assert (deb.type, deb.namespace, deb.name, deb.version) == ("deb", "debian", "nginx-light", "1:2.0-1+b1")


def test_a_base_from_elsewhere_is_named_by_digest_and_place() -> None:
    base = dependencies(lock("127.0.0.1:5000/golden/debian@" + digest("9")))[1]
    assert (base["name"], base["digest"]) == ("base", {"sha256": "9" * 64})
    oci = PackageURL.from_string(base["uri"])
    assert (oci.type, oci.name, oci.version) == ("oci", "debian", digest("9"))
    assert oci.qualifiers == {"repository_url": "127.0.0.1:5000/golden/debian"}


def test_a_base_of_ours_is_named_by_digest_and_recipe_for_it_is_the_same_in_any_registry() -> None:
    base = dependencies(lock(digest("9"), "debian"))[1]
    assert (base["name"], base["digest"]) == ("base", {"sha256": "9" * 64})
    oci = PackageURL.from_string(base["uri"])
    assert (oci.type, oci.name, oci.version, oci.qualifiers) == ("oci", "debian", digest("9"), {})


def test_what_came_of_it_beside_the_image_is_named_by_digest() -> None:
    found = {one["name"]: one for one in predicate()["runDetails"]["byproducts"]}
    assert {name: one["digest"]["sha256"][0] for name, one in found.items()} == {
        "inventory": "5", "log": "f", "materials": "7", "sbom-cyclonedx": "b", "sbom-spdx": "c", "scan": "9",
    }  # fmt: skip
    assert found["inventory"]["annotations"] == {"merkleRoot": "6" * 64, "paths": 7}
    assert found["scan"]["annotations"]["gate"] == "passed"
    assert found["scan"]["annotations"]["sampleDatabase"] is True


@pytest.mark.parametrize("missing", ["build", "scan"])
def test_without_the_evidence_of_a_stage_there_is_none(missing: str) -> None:
    one = build()
    one.evidence = {name: part for name, part in one.evidence.items() if name != missing}
    with pytest.raises((KeyError, ValidationError)):
        provenance(one, STEPS, BUILDER, LOG)
