"""Whatever a caller asks workers to do counts for its team: of its key, or of the rule that its token matches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from builder.pipeline.services import Services
from builder.registry.reference import parse_reference
from builder.settings import Settings
from builder.store import builds, keys
from builder.store.database import Database
from builder.store.schema import Build, OutboxRow, Release
from tests.integration.registry_server import running_registry
from tests.unit.api import end, submit
from tests.unit.evidence import digest, whole_evidence
from tests.unit.oidc_issuer import Issuer, issuers_file, running_issuer

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]
IMAGE = digest("a")
SCOPES = ["builds:write", "comparisons:write"]
RULES = [{"claims": {"repository": "acme/web"}, "scopes": SCOPES, "recipes": ["*"], "team": "shop"}]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as found:
        yield found


@pytest.fixture
def settings(settings: Settings, issuer: Issuer, tmp_path: Path) -> Settings:
    path = tmp_path / "issuers.yaml"
    path.write_text(issuers_file(issuer.url, rules=RULES))
    return settings.model_copy(update={"issuers": path})


@pytest.fixture(params=["key", "token"])
def member(request: pytest.FixtureRequest, anyone: TestClient, store: Database, issuer: Issuer) -> TestClient:
    """A caller of the team `shop`."""
    if request.param == "token":
        token = issuer.token()
    else:
        with store.write() as session:
            token = keys.create_key(session, "ann", team="shop")
    anyone.headers["Authorization"] = f"Bearer {token}"
    return anyone


def of(store: Database, build_id: str) -> tuple[str | None, set[str | None]]:
    """The team of a build, and those of its messages."""
    with store.read() as session:
        told = session.scalars(select(OutboxRow.team).where(OutboxRow.build_id == build_id)).all()
        return builds.get(session, build_id).team, set(told)


def asked(client: TestClient, path: str, body: Any = None) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 202, answer.text
    view: dict[str, Any] = answer.json()
    return view


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/builds", {"recipe": "web"}),
        ("/v1/builds", {"recipe": "web", "dryRun": True}),
        ("/v1/locks", {"recipe": "web"}),
    ],
)
def test_of_a_build_with_its_base_a_dry_run_and_a_lock(
    member: TestClient, store: Database, path: str, body: dict[str, Any]
) -> None:
    view = asked(member, path, body)
    assert view["team"] == "shop"
    with store.read() as session:
        assert {build.team for build in session.scalars(select(Build))} == {"shop"}
        assert {row.team for row in session.scalars(select(OutboxRow))} == {"shop"}


def test_of_a_retry_it_is_that_of_whoever_retries(member: TestClient, store: Database) -> None:
    old = asked(member, "/v1/locks", {"recipe": "web"})["id"]
    end(store, old)
    with store.write() as session:
        builds.get(session, old).team = "another"
    assert of(store, asked(member, f"/v1/builds/{old}/retry")["id"]) == ("shop", {"shop"})


def released(store: Database, registry: str) -> None:
    build_id = submit(store)
    with store.write() as session:
        build = builds.get(session, build_id)
        build.evidence, build.state = whole_evidence(), "released"
        session.add(
            Release(
                build_id=build_id, digest=IMAGE, recipe_name="web", recipe_digest=build.recipe_digest,
                registry_host=registry, repository="golden/web", tags=[], released_at=1.0,
            )
        )  # fmt: skip


@pytest.fixture
def registry(app: FastAPI, settings: Settings, tmp_path: Path) -> Iterator[str]:
    """A registry with an image `some/thing:1`, which the API works with."""
    with running_registry(tmp_path / "registry") as host:
        app.state.settings = settings.model_copy(update={"registry": host})
        app.state.services = services = Services(app.state.settings)
        image = parse_reference(f"{host}/some/thing:1")
        config = services.registry.blobs.push_bytes(image.repository, b"{}", "application/vnd.oci.image.config.v1+json")
        told = {"mediaType": config.media_type, "digest": config.digest, "size": config.size}
        media_type = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": media_type, "config": told, "layers": []}
        services.registry.manifests.put(image, json.dumps(manifest).encode())
        yield host
        services.database.close()


def test_of_a_comparison_with_an_image(member: TestClient, store: Database, registry: str) -> None:
    released(store, registry)
    body = {"golden": IMAGE, "subject": {"image": f"{registry}/some/thing:1"}}
    assert of(store, asked(member, "/v1/comparisons", body)["id"]) == ("shop", {"shop"})


def test_of_a_comparison_with_an_upload(member: TestClient, store: Database, registry: str) -> None:
    released(store, registry)
    headers = {"Content-Type": "application/x-tar"}
    answer = member.post(f"/v1/comparisons?golden={IMAGE}", content=b"a tar", headers=headers)
    assert answer.status_code == 202, answer.text
    assert of(store, answer.json()["id"]) == ("shop", {"shop"})


def test_of_a_rebuild(member: TestClient, store: Database) -> None:
    released(store, "registry.example:5000")
    assert of(store, asked(member, f"/v1/images/{IMAGE}/rebuilds")["id"]) == ("shop", {"shop"})


def test_the_caller_is_told_its_team(member: TestClient) -> None:
    assert member.get("/v1/whoami").json()["team"] == "shop"


def test_a_caller_without_one_is_a_team_of_its_own(client: TestClient, store: Database) -> None:
    assert client.get("/v1/whoami").json()["team"] is None
    view = asked(client, "/v1/locks", {"recipe": "web"})
    assert view["team"] is None
    assert json.dumps(view).count('"team"') == 1
