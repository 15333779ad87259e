"""The audit log, for administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from builder.api.access import Caller, Store
from builder.api.paging import next_page
from builder.api.problems import documented
from builder.api.views import View, instant
from builder.store import audit
from builder.store.callers import AuditEntry

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class AuditView(View):
    """An answer that was given. `caller` is the name of the key; it and `key` are null if the caller was not known."""

    id: int
    at: datetime
    caller: str | None
    key: str | None
    action: str = Field(examples=["POST /v1/builds/{build_id}/cancel"], description="Method and route.")
    subject: str = Field(description="What the path named, and the id of what was made.")
    status: int = Field(examples=[202])
    request_id: str | None


class AuditPage(View):
    entries: list[AuditView]
    next: str | None = Field(description="The path of the next page, or null on the last.")


@router.get("", summary="Who did what, and who was refused, the newest first", responses=documented(401, 422, 503))
def list_audit(
    request: Request,
    _: Caller,
    database: Store,
    caller: Annotated[
        str | None, Query(max_length=100, pattern=r"^[^\x00-\x1f]+$", description="Only what this key's owner did.")
    ] = None,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only entries older than this.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> AuditPage:
    with database.read() as session:
        found = audit.page(session, caller=caller, before=before, limit=limit + 1)
    following = None
    if len(found) > limit:
        following = next_page(request, before=found[limit - 1].id)
    return AuditPage(entries=[_view(one) for one in found[:limit]], next=following)


def _view(entry: AuditEntry) -> AuditView:
    return AuditView(
        id=entry.id,
        at=instant(entry.at),
        caller=entry.caller,
        key=entry.key_id,
        action=entry.action,
        subject=entry.subject,
        status=entry.status,
        request_id=entry.request_id,
    )
