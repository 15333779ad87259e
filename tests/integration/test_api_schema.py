"""The API under thousands of requests that nobody would write, each answer held against its own OpenAPI document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, SerializationContext
from schemathesis.checks import CHECKS
from schemathesis.specs.openapi.schemas import OpenApiSchema

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

RECIPES = Path(__file__).parents[2] / "recipes"


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
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    directory = tmp_path_factory.mktemp("api")
    made = create_app(Settings(database_url=f"sqlite:///{directory / 'a.db'}", recipes_directory=RECIPES))
    made.state.database.migrate()
    made.state.endings = Endings(made.state.database, longest=0)
    fill(made.state.database)
    return made


@pytest.fixture(scope="module")
def key(app: FastAPI) -> str:
    with app.state.database.write() as session:
        return keys.create_key(session, "schemathesis")


@pytest.fixture(scope="module")
def api(app: FastAPI) -> OpenApiSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", app)


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

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(anything)
    def attempt(case: Case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, excluded_checks=unsaid)

    attempt()
