"""Provenance is SLSA Provenance v1, field for field: the official models read it and give it back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import resource_descriptor
from pydantic import ValidationError

from builder.signing.slsa import BuildDefinition, Builder, BuildMetadata, Provenance, ResourceDescriptor, RunDetails
from builder.signing.statement import SLSA_PROVENANCE, Statement, Subject

BASE = ResourceDescriptor(
    uri="docker://docker.io/library/debian",
    digest={"sha256": "cd" * 32},
    name="debian",
    download_location="https://registry.example/debian",
    media_type="application/vnd.oci.image.manifest.v1+json",
    annotations={"goldsmith.layer": 1},
)
FULL = Provenance(
    build_definition=BuildDefinition(
        build_type="https://goldsmith.example/build/v1",
        external_parameters={"recipe": {"name": "web", "packages": ["nginx"], "note": None}},
        internal_parameters={"engine": "docker"},
        resolved_dependencies=(BASE,),
    ),
    run_details=RunDetails(
        builder=Builder(
            id="https://goldsmith.example/builder", builder_dependencies=(BASE,), version={"goldsmith": "1"}
        ),
        metadata=BuildMetadata(
            invocation_id="build-1",
            started_on=datetime(2026, 11, 23, 12, 0, 0, 5000, tzinfo=UTC),
            finished_on=datetime(2026, 11, 23, 14, 0, 7, tzinfo=timezone(timedelta(hours=2))),
        ),
        byproducts=(ResourceDescriptor(name="log", content=b"built\xff"),),
    ),
)
LEAST = Provenance(
    build_definition=BuildDefinition(build_type="https://goldsmith.example/build/v1", external_parameters={}),
    run_details=RunDetails(builder=Builder(id="https://goldsmith.example/builder")),
)


def official(provenance: Provenance) -> provenance_pb2.Provenance:
    # An unknown or misspelt field fails the parse.
    return json_format.Parse(json.dumps(provenance.predicate()), provenance_pb2.Provenance())


def test_the_official_models_read_every_field() -> None:
    message = official(FULL)
    assert json_format.MessageToDict(message) == FULL.predicate()
    assert message.run_details.byproducts[0].content == b"built\xff"
    for dependency in message.build_definition.resolved_dependencies:
        resource_descriptor.ResourceDescriptor.copy_from_pb(dependency).validate()


def test_times_are_in_utc_to_the_second() -> None:
    details = FULL.predicate()["runDetails"]
    assert isinstance(details, dict)
    assert details["metadata"] == {
        "invocationId": "build-1",
        "startedOn": "2026-11-23T12:00:00Z",
        "finishedOn": "2026-11-23T12:00:07Z",
    }


def test_what_is_not_known_is_left_out_and_what_is_null_is_kept() -> None:
    assert LEAST.predicate() == {
        "buildDefinition": {"buildType": "https://goldsmith.example/build/v1", "externalParameters": {}},
        "runDetails": {"builder": {"id": "https://goldsmith.example/builder"}},
    }
    assert official(LEAST).build_definition.build_type == "https://goldsmith.example/build/v1"
    definition = FULL.predicate()["buildDefinition"]
    assert isinstance(definition, dict)
    assert definition["externalParameters"] == {"recipe": {"name": "web", "packages": ["nginx"], "note": None}}


@pytest.mark.parametrize("provenance", [FULL, LEAST])
def test_it_comes_back_from_a_statement(provenance: Provenance) -> None:
    statement = provenance.statement(Subject.of("web", "sha256:" + "ab" * 32))
    assert statement.predicate_type == SLSA_PROVENANCE
    again = Statement.model_validate_json(statement.canonical())
    assert Provenance.model_validate(again.predicate).predicate() == provenance.predicate()


def test_a_resource_without_identification_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one of uri, digest and content"):
        ResourceDescriptor(name="debian")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError):
        BuildMetadata(started_on=datetime(2026, 11, 23))


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="buildTyp"):
        BuildDefinition.model_validate({"buildTyp": "x", "externalParameters": {}})
