"""The whole API over a database, called in this process, for tests of what it answers.

Test modules take the fixtures with `pytest_plugins = ["tests.unit.databases", "tests.unit.api"]` and say which
`database_url` they mean.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response

from builder.api.app import create_app
from builder.errors import Problem
from builder.settings import Settings
from builder.store import builds, journal, keys
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.journal import Line
from builder.store.states import State
from tests.unit.evidence import digest

RECIPE = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: NAME}
spec:
  base: {debian: {suite: trixie}}
  publish: {repository: golden/NAME}
"""


@pytest.fixture
def database_url(tmp_path: Path, migrated_file: Path) -> str:
    """SQLite, unless a module says otherwise."""
    shutil.copy(migrated_file, tmp_path / "goldsmith.db")
    return f"sqlite:///{tmp_path / 'goldsmith.db'}"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    directory = tmp_path / "recipes"
    directory.mkdir()
    for name in ("web", "python"):
        (directory / f"{name}.yaml").write_text(RECIPE.replace("NAME", name))
    return Settings(
        database_url=database_url,
        recipes_directory=directory,
        state_directory=tmp_path,
        registry="registry.example:5000",
    )


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def store(app: FastAPI) -> Database:
    found: Database = app.state.database
    return found


@pytest.fixture
def anyone(app: FastAPI) -> Iterator[TestClient]:
    """A caller without a key."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(anyone: TestClient, store: Database) -> TestClient:
    """A caller with a key, named ci."""
    with store.write() as session:
        anyone.headers["Authorization"] = f"Bearer {keys.create_key(session, 'ci')}"
    return anyone


def problem(answer: Response, status: int, slug: str | None) -> Problem:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate(answer.json())
    assert found.status == status
    assert found.type == (f"/problems/{slug}" if slug else "about:blank")
    assert found.title
    assert found.detail
    assert found.instance == answer.request.url.path
    assert ("Retry-After" in answer.headers) == found.retryable
    return found


def submit(store: Database, name: str = "web") -> str:
    with store.write() as session:
        return builds.submit(session, Submission(name, digest("1"), "{}", "request", "ci")).id


def say(store: Database, build_id: str, *texts: str) -> None:
    with store.write() as session:
        token = builds.get(session, build_id).token
        assert journal.append_log(session, build_id, [Line(1.5, "run", text) for text in texts], token=token)


def end(store: Database, build_id: str, state: State = State.FAILED) -> None:
    why = Problem(type="/problems/run-failed", title="A command failed", status=422, detail="exit code 3")
    with store.write() as session:
        builds.end(session, builds.get(session, build_id), state, why)


def events(text: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Server-sent events, read as WHATWG HTML, section 9.2.6 says."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], int(fields["id"].partition(".")[0]), json.loads(fields["data"])))
    return found
