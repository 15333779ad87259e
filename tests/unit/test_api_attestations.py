"""What is signed of an image: all of it listed, each bundle served byte for byte by kind and by digest."""

from __future__ import annotations

import hashlib
import time

from fastapi.testclient import TestClient

from builder.registry.artifact import BUNDLE
from builder.store import attachments, builds, journal
from builder.store.attachments import Kind
from builder.store.database import Database
from builder.store.journal import Line
from builder.store.schema import Release
from tests.unit.api import problem, submit
from tests.unit.evidence import digest

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

IMAGE = digest("a")
PATH = f"/v1/images/{IMAGE}/attestations"


def released(store: Database, *kinds: Kind, said: str = "first") -> str:
    build_id = submit(store)
    with store.write() as session:
        session.add(
            Release(
                build_id=build_id, digest=IMAGE, recipe_name="web", recipe_digest=digest("1"), tags=["1"],
                registry_host="registry.example:5000", repository="golden/web", released_at=time.time(),
            )
        )  # fmt: skip
        for kind in kinds:
            attachments.attach(session, build_id, kind, BUNDLE, f"{said} {kind}".encode())
    return build_id


def rebuilt(store: Database) -> str:
    build_id = submit(store)
    with store.write() as session:
        builds.get(session, build_id).subject = IMAGE
        attachments.attach(session, build_id, Kind.REPRODUCTION, BUNDLE, b"rebuilt")
    return build_id


def test_everything_signed_is_listed_and_nothing_else(client: TestClient, store: Database) -> None:
    build_id = released(store, Kind.PROVENANCE, Kind.SIGNATURE, Kind.INVENTORY)
    rebuild_id = rebuilt(store)
    found = client.get(PATH).json()["attestations"]
    assert [(one["kind"], one["build"]) for one in found] == [
        ("reproduction", rebuild_id), ("provenance", build_id), ("signature", build_id),
    ]  # fmt: skip
    for one in found:
        content = client.get(f"{PATH}/{one['digest']}").content
        assert "sha256:" + hashlib.sha256(content).hexdigest() == one["digest"]


def test_they_come_in_pages(client: TestClient, store: Database) -> None:
    released(store, Kind.PROVENANCE, Kind.SIGNATURE, Kind.TESTS)
    whole = client.get(PATH).json()
    assert whole["next"] is None
    first = client.get(f"{PATH}?limit=2").json()
    rebuilt(store)  # it comes before all of them, and moves nothing
    last = client.get(first["next"]).json()
    assert (first["attestations"] + last["attestations"], last["next"]) == (whole["attestations"], None)
    problem(client.get(f"{PATH}?after=999999"), 404, "attestation-missing")


def test_a_bundle_that_two_builds_have_attached_leaves_none_out(client: TestClient, store: Database) -> None:
    for _ in range(2):
        released(store, Kind.PROVENANCE, Kind.SIGNATURE)
        time.sleep(0.002)
    found = []
    path: str | None = f"{PATH}?limit=1"
    while path is not None:
        page = client.get(path).json()
        found += page["attestations"]
        path = page["next"]
    assert found == client.get(PATH).json()["attestations"]
    assert [one["kind"] for one in found] == ["provenance", "signature"] * 2


def test_by_its_kind_the_newest_is_served_as_it_was_published(client: TestClient, store: Database) -> None:
    released(store, Kind.PROVENANCE)
    released(store, Kind.PROVENANCE, said="second")
    answer = client.get(f"{PATH}/provenance")
    assert answer.content == b"second provenance"
    assert answer.headers["content-type"] == BUNDLE


def test_what_the_caller_has_is_not_sent_again_and_what_is_asked_by_digest_may_be_kept(
    client: TestClient, store: Database
) -> None:
    build_id = released(store, Kind.PROVENANCE, Kind.CYCLONEDX)
    for path in (f"{PATH}/provenance", f"/v1/images/{IMAGE}/sbom", f"/v1/builds/{build_id}"):
        tag = client.get(path).headers.get("etag")
        again = client.get(path, headers={"If-None-Match": tag or "*"})
        assert (again.status_code, again.content) == (304, b"") if tag else again.status_code == 200
        assert client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200
    by_digest = client.get(PATH).json()["attestations"][0]["digest"]
    assert "immutable" in client.get(f"{PATH}/{by_digest}").headers["cache-control"]
    assert "immutable" not in client.get(f"{PATH}/provenance").headers["cache-control"]
    missing = client.get(f"{PATH}/tests", headers={"If-None-Match": "*"})
    problem(missing, 404, "attestation-missing")


def test_one_that_is_not_there_is_told_with_those_that_are(client: TestClient, store: Database) -> None:
    released(store, Kind.PROVENANCE, Kind.TESTS)
    told = problem(client.get(f"{PATH}/reproduction"), 404, "attestation-missing")
    assert told.hint == "there are: provenance, tests"
    problem(client.get(f"{PATH}/{digest('0')}"), 404, "attestation-missing")
    problem(client.get(f"{PATH}/made-up"), 422, "request-invalid")


def test_of_an_unknown_image_there_are_none(client: TestClient) -> None:
    problem(client.get(PATH), 404, "image-unknown")


def test_the_whole_log_is_canonical_and_has_a_digest_that_means_something(store: Database) -> None:
    build_id = submit(store)
    with store.write() as session:
        token = builds.get(session, build_id).token
        journal.append_log(
            session, build_id, [Line(1.5, "run", f"line {number}") for number in range(2500)], token=token
        )
        content = journal.whole_log(session, build_id)
    lines = content.splitlines()
    assert len(lines) == 2500
    assert lines[0] == b'{"at":1.5,"number":1,"step":"run","text":"line 0"}'
    assert lines[-1].startswith(b'{"at":1.5,"number":2500,')
