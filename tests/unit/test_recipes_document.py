"""Recipe text is untrusted: only plain YAML comes in, and every refusal says where, why and what to do instead."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.recipes.document import MAX_BYTES, MAX_DEPTH, MAX_NODES, RecipeInvalid, parse


def refused(text: str | bytes) -> RecipeInvalid:
    with pytest.raises(RecipeInvalid) as caught:
        parse(text)
    assert caught.value.errors
    return caught.value


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: &x 1", (1, 4), "anchors and aliases are not allowed"),
        ("a: 1\nb: *x", (2, 4), "anchors and aliases are not allowed"),
        ("a: &x [1]\nb: 2", (1, 4), "anchors and aliases are not allowed"),
        ("a: !!str 1", (1, 4), "the tag 'tag:yaml.org,2002:str' is not allowed"),
        ("a: !!python/object/apply:os.system [id]", (1, 4), "python/object/apply:os.system' is not allowed"),
        ("a: !local 1", (1, 4), "the tag '!local' is not allowed"),
        ("! a", (1, 1), "the tag '!' is not allowed"),
        ("%TAG ! tag:example,2000:\n---\na: !x 1", (3, 4), "is not allowed"),
        ("a: 1\na: 2", (2, 1), "the key 'a' stands twice"),
        ("x:\n  a: 1\n  'a': 2", (3, 3), "the key 'a' stands twice"),
        ("a: 1\n---\nb: 2", (2, 1), "more than one document"),
        ("? [a]\n: b", (1, 3), "a key must be a word"),
        ("? {a: b}\n: c", (1, 3), "a key must be a word"),
        ('a: "\\ud800"', (1, 4), "half a surrogate pair is not a character"),
        ('"\\udfff": a', (1, 1), "half a surrogate pair is not a character"),
        ('a: "\\U00110000"', (1, 7), "an escape is not a character"),
        ('a: "\\Uffffffff"', (1, 7), "an escape is not a character"),
        ("a:\t1", (1, 3), "cannot start any token"),
        ("a: [1, 2", (1, 9), "not valid YAML"),
        ("a: 1\n b: 2", (2, 3), "not valid YAML"),
        ("[" * (MAX_DEPTH + 1), (1, MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_place(text: str, place: tuple[int, int], message: str) -> None:
    error = refused(text)
    fault = error.errors[0]
    assert message in fault.message
    assert (fault.line, fault.column) == place
    assert f"line {place[0]}, column {place[1]}" in error.detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the document is empty"),
        ("# only a comment\n", "the document is empty"),
        ("a: \x00", "special characters are not allowed"),
        (b"a: \xff", "not UTF-8 at byte 3"),
        ("a: \ud800", "not UTF-8 at byte 3"),
        ("a: 1".encode("utf-16"), "not UTF-8 at byte 0"),
        ("a: " + "x" * MAX_BYTES, f"the limit is {MAX_BYTES}"),
        ("[" + "1," * MAX_NODES + "1]", f"more than {MAX_NODES} values"),
        ("[" * 100_000, "nested deeper"),
        ("- " * 50_000, "nested deeper"),
        ("{a: " * 50_000, "nested deeper"),
    ],
)
def test_what_cannot_be_a_recipe_is_refused(text: str | bytes, message: str) -> None:
    assert message in str(refused(text))


def test_a_bomb_of_aliases_is_refused_before_it_expands() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "anchors and aliases" in str(refused("\n".join(lines)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Words stay words: what YAML 1.1 made booleans, octals, base 60, dates and merges of.
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("y", "y"), ("Norway: no", {"Norway": "no"}),
        ("1:30", "1:30"), ("2001-12-14", "2001-12-14"), ("1_000", "1_000"), ("=", "="),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        # Digits whose form carries a meaning keep it.
        ("0644", "0644"), ("0o644", "0o644"), ("0x1F", "0x1F"), ("+1", "+1"), ("1e3", "1e3"), (".inf", ".inf"),
        (".nan", ".nan"), ("1.", "1."), ("1" * 19, "1" * 19), ("00", "00"),
        # Plain numbers, booleans and nothing.
        ("0", 0), ("-7", -7), ("8080", 8080), ("1.5", 1.5), ("-0.25", -0.25),
        ("true", True), ("True", True), ("FALSE", False), ("tRUE", "tRUE"), ("null", None), ("~", None),
        ("a:", {"a": None}),
        # Quotes and blocks make text of anything.
        ("'0'", "0"), ('"true"', "true"), ("''", ""), ("|\n  1\n", "1\n"), (">\n  a\n  b\n", "a b\n"),
        ('"\\u00e9 \\U0001f600"', "é 😀"),
        # JSON is YAML.
        ('{"a": [1, "b", null, {"c": false}]}', {"a": [1, "b", None, {"c": False}]}),
    ],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    read = parse(text).data
    assert read == value
    assert type(read) is type(value)


def test_each_key_and_item_is_found_again_by_its_path() -> None:
    document = parse("a:\n  b:\n    - x\n    -  y\n  'c': 1\n")
    assert document.place(("a",)) == (1, 1)
    assert document.place(("a", "b")) == (2, 3)
    assert document.place(("a", "b", 1)) == (4, 8)
    assert document.place(("a", "c")) == (5, 3)


def test_what_is_missing_is_placed_where_it_should_have_been() -> None:
    document = parse("a:\n  b: {}\n")
    assert document.place(("a", "b", "missing", "deeper")) == (2, 3)
    assert document.place(("missing",)) == (1, 1)


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(RecipeInvalid):
        parse(text)


@given(st.text(alphabet="{}[]&*!|>'\"%@`,:?-# \n\tab01\\uUx8dfe.~<=", max_size=60))
def test_no_mixture_of_yamls_own_signs_breaks_the_parser(text: str) -> None:
    with suppress(RecipeInvalid):
        parse(text)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    with suppress(RecipeInvalid):
        parse(data)


_PLAIN = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn"]), max_size=30)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | _PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_PLAIN, inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_json_is_read_as_a_json_parser_reads_it(value: Any) -> None:
    assert parse(json.dumps(value, ensure_ascii=False)).data == value
    assert parse(json.dumps(value, ensure_ascii=False, indent=2)).data == value
