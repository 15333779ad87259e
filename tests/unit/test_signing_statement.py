"""A statement is an in-toto Statement v1 that other implementations read, and equal statements are equal bytes."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.v1 import statement as official
from in_toto_attestation.v1 import statement_pb2
from pydantic import JsonValue, ValidationError
from sigstore import dsse

from builder.signing.statement import COSIGN_SIGNATURE, Statement, Subject

DIGEST = "sha256:" + "ab" * 32

numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


def statement(predicate: dict[str, JsonValue]) -> Statement:
    return Statement(subject=(Subject.of("app", DIGEST),), predicateType="https://example.com/p", predicate=predicate)


def test_the_official_models_read_it() -> None:
    message = json_format.Parse(statement({"a": [1, "b", None]}).canonical(), statement_pb2.Statement())
    official.Statement.copy_from_pb(message).validate()
    assert message.subject[0].digest["sha256"] == "ab" * 32
    assert message.type == "https://in-toto.io/Statement/v1"


def test_an_image_signature_is_a_statement_that_says_only_that() -> None:
    signature = Statement.signature("registry.example/app", DIGEST)
    assert json.loads(signature.canonical()) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "registry.example/app", "digest": {"sha256": "ab" * 32}}],
        "predicateType": COSIGN_SIGNATURE,
        "predicate": {},
    }


@given(st.dictionaries(text, values, max_size=4))
def test_it_comes_back_as_it_was_and_sigstore_takes_it(predicate: dict[str, JsonValue]) -> None:
    made = statement(predicate)
    again = Statement.model_validate_json(made.canonical())
    assert again.canonical() == made.canonical()
    assert dsse.Statement(made.canonical())._contents == made.canonical()


def test_the_order_of_keys_makes_no_difference() -> None:
    assert (
        statement({"a": 1, "b": {"c": 2, "d": 3}}).canonical() == statement({"b": {"d": 3, "c": 2}, "a": 1}).canonical()
    )


@pytest.mark.parametrize("number", [2**53, float("nan"), float("inf")])
def test_a_number_json_cannot_carry_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match=r".+"):
        statement({"n": number}).canonical()


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "sha256:" + "AB" * 32, "sha256:" + "ab" * 31, "md5:" + "ab" * 16, "sha512:" + "ab" * 64, "x"],
)
def test_a_subject_needs_a_sha256_digest(digest: str) -> None:
    with pytest.raises(ValidationError):
        Subject.of("app", digest)


def test_a_statement_needs_a_subject() -> None:
    with pytest.raises(ValidationError):
        Statement(subject=(), predicateType="https://example.com/p", predicate={})


def test_a_statement_speaks_of_its_subjects_alone() -> None:
    both = Statement(
        subject=(Subject.of("a", DIGEST), Subject.of("b", "sha256:" + "cd" * 32)),
        predicateType="https://example.com/p",
        predicate={},
    )
    assert both.speaks_of(DIGEST)
    assert both.speaks_of("sha256:" + "cd" * 32)
    assert not both.speaks_of("sha256:" + "ef" * 32)
    assert not both.speaks_of("ab" * 32)
