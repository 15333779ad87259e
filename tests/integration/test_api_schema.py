"""The API under thousands of requests that nobody would write, each answer held against its own OpenAPI document."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, count
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import Case, SerializationContext
from schemathesis.checks import CHECKS
from schemathesis.specs.openapi.schemas import OpenApiSchema
from starlette.types import Receive, Scope, Send

from builder.api.app import create_app
from builder.api.waiting import Endings
from builder.pipeline.uploads import UPLOADED
from builder.settings import Settings
from builder.store import attachments, builds, journal, keys
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.schema import Release
from builder.store.states import State
from tests.unit.evidence import digest, whole_evidence
from tests.unit.git_server import GitServer, git_server
from tests.unit.git_server import git as run_git

RECIPES = Path(__file__).parents[2] / "recipes"
# One that leaves something open of each type.
OPEN = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: NAME}
parameters:
  colour: {default: red, allowed: [red, blue]}
  greeting: {default: hello, pattern: "[a-z ]{1,20}"}
  port: {type: integer, default: 8080, minimum: 1024, maximum: 9000}
  loud: {type: boolean, default: false}
spec:
  base: {debian: {suite: trixie}}
  environment:
    GREETING: "${parameters.greeting} ${parameters.colour} ${parameters.loud}"
  ports: ["${parameters.port}"]
  publish: {repository: golden/NAME}
"""
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "colour": st.sampled_from(["red", "blue", "green"]),
        "greeting": st.from_regex("[a-z ]{1,20}", fullmatch=True) | st.text(max_size=30),
        "port": st.integers(1000, 9100),
        "loud": st.booleans(),
    },
)
# How many cases each operation gets, and how many walks from answer to request there are: more for a long night.
CASES = int(os.environ.get("GOLDSMITH_TEST_API_CASES", "250"))
WALKS = int(os.environ.get("GOLDSMITH_TEST_API_WALKS", "40"))


def fill(database: Database) -> None:
    """A released build, a running one and a failed one, so that more than 404 can be met."""
    with database.write() as session:
        ids = [builds.submit(session, Submission("web", digest("1"), "{}", "request", "ci")).id for _ in range(3)]
        for build_id in ids:
            journal.append_log(session, build_id, [journal.Line(1.0, "run", "hello")], token=0)
            step = journal.begin_step(session, build_id, 1, "run")
            journal.finish_step(session, step, "done", "1 command")
        released = builds.get(session, ids[0])
        released.evidence, released.state = whole_evidence(), State.RELEASED
        for kind in Kind:
            attachments.attach(session, released.id, kind, "application/json", b"{}")
        session.add(
            Release(
                build_id=released.id, digest=digest("a"), recipe_name="web", recipe_digest=digest("1"),
                registry_host="127.0.0.1:5000", repository="golden/web", tags=["1"], released_at=100.0,
            )
        )  # fmt: skip


@pytest.fixture(scope="module")
def _names() -> Iterator[None]:
    """Names have addresses, which nobody is sent to: no worker delivers anything here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builder.pipeline.notifying.addresses_of", lambda host, port: ["93.184.215.14"])
        yield


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with git_server(tmp_path_factory.mktemp("git")) as server:
        where = server.repository(
            "acme/images", {"images/mine.yaml": OPEN.replace("NAME", "mine"), "README": "no recipe"}
        )
        run_git(where, "tag", "v1")
        yield server


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, git: GitServer, _names: None) -> FastAPI:
    directory = tmp_path_factory.mktemp("api")
    recipes = directory / "recipes"
    shutil.copytree(RECIPES, recipes)
    (recipes / "open.yaml").write_text(OPEN.replace("NAME", "open"))
    made = create_app(
        Settings(
            database_url=f"sqlite:///{directory / 'a.db'}", recipes_directory=recipes, requests_per_minute=0,
            jobs_per_minute=0, git_hosts=(git.host,), git_private=True,
        )
    )  # fmt: skip
    made.state.database.migrate()
    made.state.endings = Endings(made.state.database, longest=0)
    fill(made.state.database)
    return made


@pytest.fixture(scope="module")
def key(app: FastAPI) -> str:
    with app.state.database.write() as session:
        return keys.create_key(session, "schemathesis")


@pytest.fixture(scope="module")
def api(app: FastAPI, key: str) -> OpenApiSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Authorization": f"Bearer {key}"})


# A recipe has rules that no schema says, such as "exactly one of": well-formed ones may be refused, and so may an image
# whose record nobody signed. In a query all is text: a `false` that stands for a wrong type is a good name.
UNSAID = {
    ("/v1/builds", "post"): ["positive_data_acceptance"],
    ("/v1/locks", "post"): ["positive_data_acceptance"],
    ("/v1/images/{digest}/rebuilds", "post"): ["positive_data_acceptance"],
    ("/v1/comparisons", "post"): ["positive_data_acceptance"],
    # One key for two requests, which no schema forbids.
    ("/v1/rescans", "post"): ["positive_data_acceptance"],
    ("/v1/exceptions", "post"): ["positive_data_acceptance"],
    ("/v1/exceptions/imports", "post"): ["positive_data_acceptance"],
    ("/v1/builds/{build_id}/retry", "post"): ["positive_data_acceptance"],
    ("/v1/policies/evaluate", "post"): ["positive_data_acceptance"],
    ("/v1/verifications", "post"): ["positive_data_acceptance"],
    ("/v1/ledger/proofs/inclusion", "get"): ["positive_data_acceptance"],
    ("/v1/ledger/cosignatures", "post"): ["positive_data_acceptance"],
    ("/v1/provenance", "get"): ["negative_data_rejection"],
    ("/v1/policies", "get"): ["negative_data_rejection"],
    ("/v1/comparisons", "get"): ["negative_data_rejection"],
    ("/v1/builds", "get"): ["negative_data_rejection"],
    ("/v1/exceptions", "get"): ["negative_data_rejection"],
    ("/v1/findings", "get"): ["negative_data_rejection"],
    ("/v1/audit", "get"): ["negative_data_rejection"],
    ("/v1/webhooks", "get"): ["negative_data_rejection"],
    ("/v1/recipes", "get"): ["negative_data_rejection"],
    ("/v1/images/{digest}/attestations", "get"): ["negative_data_rejection"],
    # Where an address leads is looked up; and one key came with two requests.
    ("/v1/webhooks", "post"): ["positive_data_acceptance"],
    ("/v1/webhooks/{webhook_id}/test", "post"): ["positive_data_acceptance"],
    ("/v1/webhooks/{webhook_id}/deliveries/{number}/replay", "post"): ["positive_data_acceptance"],
    ("/v1/images/{digest}/comparisons", "get"): ["negative_data_rejection"],
    ("/v1/images/{digest}/rebuilds", "get"): ["negative_data_rejection"],
}
OPERATIONS = [
    (path, method)
    for path, operations in create_app(Settings(database_url="sqlite://")).openapi()["paths"].items()
    for method in operations
]


@schemathesis.serializer(*UPLOADED)
def as_it_is(_: SerializationContext, value: Any) -> bytes:
    """An upload: bytes, or something that is none."""
    return value if isinstance(value, bytes) else repr(value).encode()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_in_the_document(api: OpenApiSchema, key: str, path: str, method: str) -> None:
    operation = api[path][method]
    unsaid = [CHECKS.get_one(name) for name in UNSAID.get((path, method), [])]
    anything = st.one_of(operation.as_strategy(mode) for mode in schemathesis.GenerationMode)

    @settings(
        max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
    )
    @given(anything)
    def attempt(case: Case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, excluded_checks=unsaid)

    attempt()


def sensible(git: GitServer) -> st.SearchStrategy[dict[str, Any]]:
    """Requests for builds and locks of each source of recipes, and how they may be filled in: many are accepted."""
    commit = run_git(git.root / "acme/images", "rev-parse", "HEAD")
    # A commit has to be fetched each time: most requests are of the service's own.
    named = st.fixed_dictionaries({"recipe": st.sampled_from(["web", "open", "open", "debian", "opne"])})
    placed = st.fixed_dictionaries(
        {
            "repository": st.just(f"{git.url}/acme/images"),
            "path": st.sampled_from(["images/mine.yaml", "images/mine.yaml", "README", "../x", "none.yaml"]),
        },
        optional={"ref": st.sampled_from(["main", "v1", "HEAD", commit, "none", commit[:7]])},
    )
    parameters = st.fixed_dictionaries({}, optional={"parameters": VALUES})
    return st.builds(lambda source, given: source | given, named | named | placed, parameters)


ASKED = {
    "/v1/builds": st.fixed_dictionaries(
        {},
        optional={
            "dryRun": st.booleans(), "force": st.booleans(), "priority": st.sampled_from(["low", "normal", "high"]),
            "lockUse": st.sampled_from(["prefer", "require", "update"]),
        },
    ),
    "/v1/locks": st.just({}),
}  # fmt: skip


@pytest.mark.parametrize("path", ASKED)
def test_recipes_of_every_source_filled_in_and_planned_are_answered_as_the_document_says(
    api: OpenApiSchema, key: str, git: GitServer, path: str
) -> None:
    operation = api[path]["post"]
    # The body is put in: whether the case's own was good says nothing.
    unsaid = [CHECKS.get_one(name) for name in ("positive_data_acceptance", "negative_data_rejection")]
    answered: Counter[tuple[str, ...]] = Counter()

    @settings(
        max_examples=CASES // 2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
    )
    @given(operation.as_strategy(), sensible(git), ASKED[path])
    def attempt(case: Case, source: dict[str, Any], more: dict[str, Any]) -> None:
        case.body, case.media_type = source | more, "application/json"
        answer = case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, excluded_checks=unsaid)
        told = answer.json()
        answered.update(kinds(told) if answer.status_code == 202 else [("refused", told["type"].rpartition("/")[2])])

    attempt()
    wanted = {("git",), ("parameters",), ("git", "parameters"), ("catalogue",)}
    if path == "/v1/builds":
        wanted |= {("plan",), ("git", "plan"), ("parameters", "plan"), ("release",)}
    refused = {"recipe-unknown", "parameter-invalid", "git-source-refused"}
    assert wanted | {("refused", slug) for slug in refused} <= set(answered), answered


def kinds(build: dict[str, Any]) -> set[tuple[str, ...]]:
    """What an accepted request shows: where its recipe was, whether something was filled in, what it is for."""
    where = "git" if build["source"] else "catalogue"
    single = [where, *(["parameters"] if build["parameters"] else []), build["purpose"]]
    return {(one,) for one in single} | {tuple(sorted(pair)) for pair in combinations(single, 2)}


class Anew:
    """An application that begins each walk with the same database: a walk must not depend on the one before it."""

    def __init__(self, directory: Path, app: FastAPI) -> None:
        self._directory = directory
        self._settings = app.state.settings
        self._filled = directory / "filled.db"
        with sqlite3.connect(self._filled) as copy, sqlite3.connect(app.state.settings.database_url[10:]) as source:
            source.backup(copy)
        self._walks = 0
        self.begin()

    def begin(self) -> None:
        self._walks += 1
        file = self._directory / f"{self._walks}.db"
        shutil.copy(self._filled, file)
        self._app = create_app(self._settings.model_copy(update={"database_url": f"sqlite:///{file}"}))
        self._app.state.endings = Endings(self._app.state.database, longest=0)

    def end(self) -> None:
        self._app.state.database.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def test_every_walk_from_answer_to_request_stays_in_the_document(
    tmp_path: Path, app: FastAPI, git: GitServer, key: str
) -> None:
    """What one request made is asked about, changed and removed by the next, as the document's links say."""
    anew = Anew(tmp_path, app)
    walked: set[tuple[str, str]] = set()
    begun: Counter[tuple[str, ...]] = Counter()
    asked = [
        {"recipe": "web"},
        {"recipe": "open", "parameters": {"port": 9000, "loud": True}},
        {"repository": f"{git.url}/acme/images", "path": "images/mine.yaml", "parameters": {"colour": "blue"}},
        {"recipe": "web", "dryRun": True},
    ]
    document = schemathesis.openapi.from_asgi("/openapi.json", anew, headers={"Authorization": f"Bearer {key}"})

    class Walk(document.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            anew.begin()
            self.turns = count()

        def teardown(self) -> None:
            anew.end()
            super().teardown()

        def before_call(self, case: Case) -> None:
            """Chance seldom names a recipe, and a build is where most walks begin: it and the turn say which."""
            if case.operation.label in ("POST /v1/builds", "POST /v1/locks"):
                which = asked[(crc32(repr(case.body).encode()) + next(self.turns)) % len(asked)]
                case.body, case.media_type = which, "application/json"
                if case.operation.label == "POST /v1/locks":
                    case.body = {name: value for name, value in which.items() if name != "dryRun"}

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"headers": {"Authorization": f"Bearer {key}"}}

        def validate_response(self, response: Any, case: Case, **kwargs: Any) -> None:
            operation = case.operation
            if response.status_code < 300:
                walked.add((operation.method.upper(), operation.path))
            if response.status_code == 202 and operation.label in (
                "POST /v1/builds",
                "POST /v1/builds/{build_id}/retry",
            ):
                begun.update(kinds(response.json()))
            # The test of each operation has these.
            unsaid = [CHECKS.get_one(name) for name in ("positive_data_acceptance", "negative_data_rejection")]
            case.validate_response(response, excluded_checks=unsaid, **kwargs)

    wanted = {("POST", "/v1/builds"), ("GET", "/v1/builds/{build_id}"), ("POST", "/v1/builds/{build_id}/cancel")}
    # Few walks begin with a build; which kinds these are is chance.
    kinds_wanted = {("git",), ("parameters",), ("plan",)}
    # Where walks lead is chance, the same for the same document; longer ones lead elsewhere.
    for steps in (8, 10, 12, 14):
        run_state_machine_as_test(
            Walk,
            settings=settings(
                max_examples=WALKS, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck),
                derandomize=True, database=None,
            ),
        )  # fmt: skip
        if wanted <= walked and kinds_wanted & set(begun):
            return
    pytest.fail(f"no walk comes by {sorted(wanted - walked) or begun}")
