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
    metrics,
    openapi,
    policies,
    problems,
    provenance,
    rebuilds,
    recipes,
    reference,
    retries,
    service,
    verdicts,
    verifications,
    webhooks,
    whoami,
)
from builder.api.access import finding_keys
from builder.api.auditing import Auditing, writing_audit
from builder.api.batches import Batches
from builder.api.bounds import Bounds
from builder.api.compressing import Compressing
from builder.api.conditional import Conditional
from builder.api.events import Follows
from builder.api.metrics import Answered, Measuring
from builder.api.rates import Rates
from builder.api.request_ids import RequestIds
from builder.api.traced import Traced
from builder.api.turns import Turns
from builder.api.waiting import Endings
from builder.identity.tokens import Tokens
from builder.logs import configure_logs
from builder.pipeline.services import Services
from builder.recipes.catalogue import Catalogue
from builder.settings import Settings, load_settings
from builder.spans import Spans

_DESCRIPTION = """Golden container images: built bit for bit from a recipe, tested, scanned, signed, recorded.

Every failure is a problem detail (RFC 9457). All but health and trust needs an API key, or a token,
with the scope that `security` names.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or load_settings()
    services = Services(settings)
    database = services.database
    endings = Endings(database)
    spans = Spans(settings.traces_url, "goldsmith-api") if settings.traces_url else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if settings.log_format == "json":
            configure_logs("json")
        database.migrate()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(endings.watch)
            yield
            tasks.cancel_scope.cancel()
        database.close()
        app.state.rates.close()
        if spans is not None:
            await anyio.to_thread.run_sync(spans.close)

    app = FastAPI(
        title="Goldsmith",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # FastAPI's own routes, and Swagger's page with them, would be open to anyone
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
    app.state.git_turns = Turns(at_once=4)
    app.state.tokens = Tokens(settings.issuers)
    app.state.rates = Rates(settings.redis_url.get_secret_value(), settings.database_url)
    app.state.counting = Batches(app.state.rates.take)
    app.state.catalogue = Catalogue(settings.recipes_directory)
    problems.install(app)
    app.state.answered = Answered()
    app.add_middleware(Conditional)
    app.add_middleware(Compressing)
    app.add_middleware(Auditing)
    app.add_middleware(Bounds)
    app.add_middleware(Measuring, answered=app.state.answered)
    if spans is not None:
        app.add_middleware(Traced, spans=spans)
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
        reference.router,
        metrics.router,
        service.router,
    ):
        app.include_router(router)
    openapi.describe(app)
    return app
