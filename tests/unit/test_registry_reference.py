"""Names of images are read strictly: a name that tools understand differently is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import Rejected
from builder.registry.access import Access
from builder.registry.errors import ReferenceInvalid
from builder.registry.reference import Reference, Repository, is_loopback, parse_reference, parse_repository

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r.example/app", Reference(Repository("r.example", "app"))),
        ("r.example:5000/team/app:1.0", Reference(Repository("r.example:5000", "team/app"), tag="1.0")),
        (f"localhost/app@{DIGEST}", Reference(Repository("localhost", "app"), digest=DIGEST)),
        (f"127.0.0.1:5000/a/b:t@{DIGEST}", Reference(Repository("127.0.0.1:5000", "a/b"), tag="t", digest=DIGEST)),
        ("[::1]:5000/app:x", Reference(Repository("[::1]:5000", "app"), tag="x")),
        ("r.example/a__b/c.d/e-f--g", Reference(Repository("r.example", "a__b/c.d/e-f--g"))),
    ],
)
def test_a_full_name_is_read(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("debian:12", "names no registry"),
        ("library/debian", "names no registry"),
        ("", "names no registry"),
        ("r.example/", "not a repository name"),
        ("r.example/App", "lower-case"),
        ("r.example/a//b", "not a repository name"),
        ("r.example/../v2", "not a repository name"),
        ("r.example/a:", "not a tag"),
        ("r.example/a:-x", "not a tag"),
        ("r.example/a:" + "x" * 129, "not a tag"),
        ("r.example/a@sha256:12", "not a digest"),
        ("r.example/a@", "not a digest"),
        ("user:pw@r.example/a", "names no registry"),
        ("http://r.example/a", "not a registry's host name"),
        ("-r.example/a", "not a registry's host name"),
        ("r.example:x/a", "not a registry's host name"),
        ("r.example/" + "a" * 300, "not a repository name"),
        ("r.example/a b", "not a repository name"),
        ("r.example/a\n", "not a repository name"),
        ("r.example/a?x=1", "not a repository name"),
    ],
)
def test_anything_else_is_refused_with_the_way_out(text: str, says: str) -> None:
    with pytest.raises(Rejected, match=says) as refused:
        parse_reference(text)
    assert refused.value.hint


@given(st.text(max_size=60))
def test_whatever_is_read_is_written_the_same(text: str) -> None:
    try:
        reference = parse_reference(text)
    except Rejected:
        return
    assert str(reference) == text


def test_a_tag_is_checked_wherever_it_comes_from() -> None:
    with pytest.raises(ReferenceInvalid, match="not a tag"):
        parse_repository("r.example/a").tagged("../../v2")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1:5000", True), ("127.9.9.9", True), ("localhost:1", True), ("[::1]:5000", True), ("[::1]", True),
        ("127.0.0.1.example.org", False), ("localhost.example.org", False), ("10.0.0.1:5000", False),
        ("r.example", False),
        ("0.0.0.0:5000", False), ("2130706433", False),
    ],
)  # fmt: skip
def test_loopback_is_told_by_the_name_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert Access().base_url(host).startswith("http://" if loopback else "https://")


def test_plain_http_is_for_registries_named_one_by_one() -> None:
    access = Access(insecure=frozenset({"lab.example:5000"}))
    assert access.base_url("lab.example:5000") == "http://lab.example:5000"
    assert access.base_url("lab.example") == "https://lab.example"
