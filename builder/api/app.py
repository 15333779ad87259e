"""The application, put together. `uvicorn --factory builder.api.app:create_app` serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI

from builder import __version__
from builder.api import (
    archives,
    attestations,
    audit,
    builds,
    comparisons,
    documents,
    exceptions,
    findings,
    images,
    ledger,
    locks,
    policies,
    problems,
    provenance,
    rebuilds,
    recipes,
    retries,
    service,
    verdicts,
    verifications,
    webhooks,
    whoami,
)
from builder.api.access import finding_keys
from builder.api.auditing import Auditing, writing_audit
from builder.api.conditional import Conditional
from builder.api.events import Follows
from builder.api.request_ids import RequestIds
from builder.api.scopes import ROUTES
from builder.api.turns import Turns
from builder.api.views import LogPage
from builder.api.waiting import Endings
from builder.errors import Problem
from builder.identity.tokens import Tokens
from builder.pipeline.services import Services
from builder.recipes.catalogue import Catalogue
from builder.settings import Settings, load_settings
from builder.verdicts.report import VerdictReport

_DESCRIPTION = """Golden container images: built bit for bit from a recipe, tested, scanned, signed, recorded.

Every failure is a problem detail (RFC 9457). All but health, trust and problem pages needs an API key
with the scope that `security` names.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or load_settings()
    services = Services(settings)
    database = services.database
    endings = Endings(database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        database.migrate()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(endings.watch)
            yield
            tasks.cancel_scope.cancel()
        database.close()

    app = FastAPI(
        title="Goldsmith",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url="/docs",
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.services = services
    app.state.database = database
    app.state.endings = endings
    app.state.follows = Follows(database)
    app.state.finding_attachments = images.finding_attachments(database)
    app.state.finding_keys = finding_keys(database)
    app.state.writing_audit = writing_audit(database)
    app.state.turns = Turns()
    app.state.tokens = Tokens(settings.issuers)
    app.state.catalogue = Catalogue(settings.recipes_directory)
    problems.install(app)
    app.add_middleware(Conditional)
    app.add_middleware(Auditing)
    app.add_middleware(RequestIds)
    # In the order in which they are looked through: what is asked for most comes first.
    for router in (
        images.router,
        builds.router,
        retries.router,
        locks.router,
        documents.router,
        attestations.router,
        archives.router,
        ledger.router,
        provenance.router,
        rebuilds.router,
        comparisons.router,
        exceptions.router,
        findings.router,
        verdicts.router,
        policies.router,
        verifications.router,
        recipes.router,
        audit.router,
        webhooks.router,
        whoami.router,
        service.router,
    ):
        app.include_router(router)
    _document_models(app)
    return app


def _document_models(app: FastAPI) -> None:
    """Put the models that routes only refer to into the OpenAPI document, and leave FastAPI's own 422 out of it."""
    made = app.openapi

    def openapi() -> dict[str, object]:
        document = made()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                needs = ROUTES.get(f"{method.upper()} {path}")
                if needs is not None and needs.scopes:
                    # Roles, as OpenAPI 3.1 has them for bearer tokens: one of these is enough.
                    operation["security"] = [{"HTTPBearer": [scope.value]} for scope in needs.scopes]
                invalid = operation["responses"].get("422", {})
                if "application/json" in invalid.get("content", {}):
                    del operation["responses"]["422"]
        for model in (Problem, LogPage, VerdictReport):
            schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        return document

    app.openapi = openapi  # type: ignore[method-assign]
