"""What auditors ask: by recipe, image, time, requester, package and finding; the same answer each time, in any form."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from builder.store import components
from builder.store.components import Contained, PackageWanted, contained
from builder.store.database import Database
from builder.store.schema import Finding
from tests.unit.api import problem
from tests.unit.evidence import digest
from tests.unit.releases import DAY, LIBSSL, MARCH, NEWER, OPENSSL, SCOPED, released

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]


def asked(client: TestClient, **query: Any) -> list[str]:
    """The builds that are answered, in order."""
    answer = client.get("/v1/provenance", params=query)
    assert answer.status_code == 200, answer.text
    return [one["build"] for one in answer.json()["releases"]]


@pytest.fixture
def three(store: Database) -> tuple[str, str, str]:
    """One in February, one in March, one in April: another recipe, by somebody else."""
    return (
        released(store, "a", OPENSSL, LIBSSL, at=MARCH - DAY),
        released(store, "b", NEWER, at=MARCH + DAY, requester="auditor's friend"),
        released(store, "c", SCOPED, at=MARCH + 40 * DAY, recipe="python"),
    )


def test_all_are_listed_the_newest_first_with_where_the_evidence_is(client: TestClient, three: tuple[str, ...]) -> None:
    found = client.get("/v1/provenance").json()
    assert [one["build"] for one in found["releases"]] == list(reversed(three))
    newest = found["releases"][0]
    assert newest["reference"] == f"registry.example:5000/golden/python@{digest('c')}"
    assert (newest["recipe"], newest["requester"], newest["tags"]) == ("python", "ci", ["1", "x"])
    assert newest["recordDigest"] == digest("e")
    assert found["next"] is None


def test_what_did_this_person_release_in_march(client: TestClient, three: tuple[str, ...]) -> None:
    month = {"since": "2026-03-01T00:00:00Z", "until": "2026-04-01T00:00:00Z"}
    assert asked(client, requester="auditor's friend", **month) == [three[1]]
    assert asked(client, requester="ci", **month) == []
    assert asked(client, **month) == [three[1]]


@pytest.mark.parametrize(
    ("wanted", "images"),
    [
        ("openssl", [1, 0]),
        ("openssl@3.0.15", [0]),
        ("openssl@3.0.15-1~deb12u1", [0]),
        ("libssl3@3.0.15", [0]),
        ("libssl3@1:3.0.15-1~deb12u1", [0]),
        ("openssl@3.0", []),
        ("openssl@3.0.16", [1]),
        ("@angular/core", [2]),
        ("@angular/core@19.1.0", [2]),
        ("nothing", []),
    ],
)
def test_which_images_contain_a_package(
    client: TestClient, three: tuple[str, ...], wanted: str, images: list[int]
) -> None:
    assert asked(client, package=wanted) == [three[one] for one in images]


def test_which_images_have_a_vulnerability(client: TestClient, store: Database, three: tuple[str, ...]) -> None:
    with store.write() as session:
        session.add(
            Finding(
                image_digest=digest("b"), recipe_name="web", vulnerability="CVE-2026-1", package="openssl",
                installed="3.0.16-1", severity="HIGH", first_seen=1.0, last_seen=1.0, database_digest=digest("8"),
                above_policy=False, since_release=False,
            )
        )  # fmt: skip
    assert asked(client, finding="CVE-2026-1") == [three[1]]
    assert asked(client, finding="CVE-2026-2") == []


def test_filters_hold_together(client: TestClient, three: tuple[str, ...]) -> None:
    assert asked(client, recipe="web", package="openssl", digest=digest("a")) == [three[0]]
    assert asked(client, recipe="python", package="openssl") == []


def test_pages_have_each_release_once_whatever_is_released_meanwhile(client: TestClient, store: Database) -> None:
    made = [released(store, "a", at=MARCH) for _ in range(5)]  # all at one moment
    found, path = [], "/v1/provenance?limit=2"
    while path:
        page = client.get(path).json()
        found += [one["build"] for one in page["releases"]]
        path = page["next"]
        released(store, "b", at=MARCH + DAY)
    assert found == sorted(made, reverse=True)


def test_a_page_that_the_caller_has_is_not_sent_again(client: TestClient, three: tuple[str, ...]) -> None:
    client.headers["Accept-Encoding"] = "identity"  # compressed it has a weak tag
    first = client.get("/v1/provenance")
    tag = first.headers["etag"]
    for named in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/v1/provenance", headers={"If-None-Match": named})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == (named if named.startswith("W/") else tag)
    assert client.get("/v1/provenance", headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get("/v1/provenance?recipe=web").headers["etag"] != tag


def test_everything_as_json_lines(client: TestClient, three: tuple[str, ...]) -> None:
    answer = client.get("/v1/provenance?format=jsonl&limit=1")
    assert answer.headers["content-type"] == "application/jsonl"
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert rows == client.get("/v1/provenance").json()["releases"]


def test_everything_as_csv_without_formulas(client: TestClient, store: Database, three: tuple[str, ...]) -> None:
    released(store, "d", at=MARCH - 9 * DAY, requester='=HYPERLINK("http://x")')
    answer = client.get("/v1/provenance?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["build"] for row in rows[:3]] == list(reversed(three))
    assert rows[0]["tags"] == "1 x"
    assert rows[-1]["requester"] == '\'=HYPERLINK("http://x")'


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "since=2026-03-01T00:00:00", "digest=web", "package=a b", "finding=", "after=x", "after=W10",
     "after=bnVsbA", "limit=0", "format=xml"],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_told_by_field(client: TestClient, query: str) -> None:
    told = problem(client.get(f"/v1/provenance?{query}"), 422, "request-invalid")
    assert told.errors[0].field == f"query.{query.partition('=')[0]}"


class TestPackages:
    DOCUMENT = json.dumps(
        {
            "components": [
                {"type": "operating-system", "name": "debian", "version": "12"},
                {"name": "libssl3", "version": "1:3.0.15-1~deb12u1", "purl": LIBSSL.purl,
                 "properties": [{"name": "aquasecurity:trivy:SrcName", "value": "openssl"}]},
                {"name": "core\u0000", "version": "1", "purl": "pkg:npm/core@1"},
            ]
        }
    ).encode()  # fmt: skip

    def test_they_are_read_from_the_bill_of_materials(self) -> None:
        assert contained(self.DOCUMENT) == [LIBSSL, Contained("core", "1", "core", "pkg:npm/core@1")]

    @pytest.mark.parametrize(
        ("package", "upstream"),
        [(OPENSSL, "3.0.15"), (LIBSSL, "3.0.15"), (SCOPED, "19.1.0"),
         (Contained("x", "1-2-3", "x", "pkg:deb/debian/x@1-2-3"), "1-2"),
         (Contained("x", "4", "x", "pkg:deb/x@4"), "4")],
    )  # fmt: skip
    def test_upstreams_version_has_neither_epoch_nor_revision(self, package: Contained, upstream: str) -> None:
        assert package.upstream == upstream

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [("a", PackageWanted("a")), ("a@1", PackageWanted("a", "1")), ("@a/b", PackageWanted("@a/b")),
         ("@a/b@1", PackageWanted("@a/b", "1")), ("a@", PackageWanted("a"))],
    )  # fmt: skip
    def test_a_name_may_have_a_version(self, text: str, wanted: PackageWanted) -> None:
        assert PackageWanted.parse(text) == wanted

    def test_two_images_share_what_they_both_have_and_a_third_time_changes_nothing(self, database: Database) -> None:
        many = [Contained(f"p{number}", "1", "p", f"pkg:deb/debian/p{number}@1") for number in range(450)]
        with database.write() as session:
            components.index_image(session, digest("a"), [*many, OPENSSL, OPENSSL])
            components.index_image(session, digest("b"), many)
            components.index_image(session, digest("b"), [NEWER])
        with database.read() as session:
            assert set(session.scalars(components.images_with(PackageWanted("p449")))) == {digest("a"), digest("b")}
            assert set(session.scalars(components.images_with(PackageWanted("openssl")))) == {digest("a")}
