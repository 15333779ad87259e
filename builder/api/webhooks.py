"""Webhooks: created, listed, removed, tried out; what each was sent, and the same once more."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from builder.api.access import Caller, Store
from builder.api.bodies import read_body
from builder.api.idempotency import IdempotencyKey, Made, carried_out_once
from builder.api.identified import refuse_all_recipes
from builder.api.paging import next_page
from builder.api.problems import RequestInvalid, documented
from builder.api.views import View, instant, moment
from builder.errors import Fault, Problem
from builder.pipeline.notifying import check_address
from builder.store import webhooks as store
from builder.store.webhooks import Delivery, DeliveryState, Event, Wanted, Webhook

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

_NOTHING = "0" * 64
_ID = "^([0-9a-f]{16}|configured)$"
Id = Annotated[str, Path(pattern=_ID)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


class WebhookRequest(BaseModel):
    """Where to tell, and of what. The address must be https and public unless the operator allows others."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    url: Annotated[str, Field(min_length=1, max_length=2000, pattern="^[!-~]+$", examples=["https://ci.example/hook"])]
    events: Annotated[list[Wanted], Field(min_length=1, max_length=20, examples=[["build.*", "findings.risen"]])]
    description: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f]*$", examples=["the team's channel"])] = ""


class WebhookView(View):
    id: str = Field(examples=["8f14e45fceea167a"])
    url: str
    events: list[str] = Field(examples=[["build.*"]])
    description: str
    created_by: str
    created_at: datetime
    ended: str | None = Field(description="Why nothing more is sent: `removed`, or `gone` as the address answered 410.")
    ended_at: datetime | None
    secret: str | None = Field(
        default=None,
        description="What notices are signed with (Standard Webhooks); shown when it is made only.",
    )


class WebhookPage(View):
    webhooks: list[WebhookView]
    next: str | None = Field(description="The path of the next page, or null on the last.")


class DeliveryView(View):
    """A message for one webhook, and what came of it."""

    id: int
    message: str = Field(description="The `webhook-id`; a replay has the same.", examples=["msg_" + "5c" * 16])
    event: str = Field(examples=["build.released"])
    state: DeliveryState
    tries: int
    status: int | None = Field(description="What the last try was answered with.")
    created_at: datetime
    tried_at: datetime | None
    problem: Problem | None = Field(description="Why the last try did not succeed.")
    payload: dict[str, Any] | None = Field(default=None, description="What is sent; of a single delivery only.")


class DeliveryPage(View):
    deliveries: list[DeliveryView]
    next: str | None = Field(description="The path of the next page, or null on the last.")


@router.post(
    "",
    status_code=201,
    response_model=WebhookView,
    summary="Create a webhook",
    response_description="The webhook with its secret, this once.",
    responses=documented(400, 401, 409, 413, 415, 422, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": WebhookRequest.model_json_schema(by_alias=True)}},
        }
    },
)
async def create_webhook(request: Request, caller: Caller, database: Store, _: IdempotencyKey = None) -> Response:
    refuse_all_recipes(request)
    body = await read_body(request, ("application/json",))
    asked = _parsed(body.content)
    private = request.app.state.settings.webhook_private

    def answer() -> Made:
        check_address(asked.url, private=private)
        with database.write() as session:
            made = store.create(
                session, url=asked.url, events=asked.events, description=asked.description, created_by=caller
            )
            view = _view(made).model_copy(update={"secret": made.secret})
        return Made(view, f"/v1/webhooks/{made.id}", 201)

    return await carried_out_once(request, caller, body.digest, answer)


@router.get("", summary="List webhooks, newest first", responses=documented(401, 404, 422, 503))
def list_webhooks(
    request: Request,
    _: Caller,
    database: Store,
    ended: Annotated[bool, Query(description="Those that have ended, too.")] = False,
    before: Annotated[str | None, Query(pattern=_ID, description="Only those older than this webhook.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> WebhookPage:
    with database.read() as session:
        found = [_view(one) for one in store.page(session, ended=ended, before=before, limit=limit + 1)]
    following = None
    if len(found) > limit:
        following = next_page(request, before=found[limit - 1].id)
    return WebhookPage(webhooks=found[:limit], next=following)


@router.get("/{webhook_id}", summary="See a webhook", responses=documented(401, 404, 422, 503))
def get_webhook(webhook_id: Id, _: Caller, database: Store) -> WebhookView:
    with database.read() as session:
        return _view(store.get(session, webhook_id))


@router.delete("/{webhook_id}", summary="Remove a webhook", responses=documented(401, 404, 422, 503))
def remove_webhook(request: Request, webhook_id: Id, _: Caller, database: Store) -> WebhookView:
    """Nothing more is sent, not even what has been tried. What was sent is still listed."""
    refuse_all_recipes(request)
    with database.write() as session:
        return _view(store.remove(session, webhook_id))


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    response_model=DeliveryView,
    summary="Send a webhook something to try it out",
    response_description="The delivery of a `webhook.test` event, on its way.",
    responses=documented(400, 401, 404, 409, 422, 503),
)
async def try_webhook(
    request: Request, webhook_id: Id, caller: Caller, database: Store, _: IdempotencyKey = None
) -> Response:
    refuse_all_recipes(request)

    def answer() -> Made:
        with database.write() as session:
            webhook = store.get(session, webhook_id, live=True)
            return _made(store.send(session, webhook, Event.WEBHOOK_TEST, {"webhook": webhook.id, "by": caller}))

    return await carried_out_once(request, caller, _NOTHING, answer)


@router.get(
    "/{webhook_id}/deliveries",
    summary="What a webhook was sent, the newest first",
    description="For 30 days.",
    responses=documented(401, 404, 422, 503),
)
def list_deliveries(
    request: Request,
    webhook_id: Id,
    _: Caller,
    database: Store,
    state: DeliveryState | None = None,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only those older than this.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> DeliveryPage:
    with database.read() as session:
        store.get(session, webhook_id)
        found = store.deliveries(session, webhook_id, state=state, before=before, limit=limit + 1)
    following = None
    if len(found) > limit:
        following = next_page(request, before=found[limit - 1].id)
    return DeliveryPage(deliveries=[_delivery(one) for one in found[:limit]], next=following)


@router.get("/{webhook_id}/deliveries/{number}", summary="See a delivery", responses=documented(401, 404, 422, 503))
def get_delivery(webhook_id: Id, number: Number, _: Caller, database: Store) -> DeliveryView:
    with database.read() as session:
        found = store.delivery(session, webhook_id, number)
    return _delivery(found).model_copy(update={"payload": json.loads(found.body)})


@router.post(
    "/{webhook_id}/deliveries/{number}/replay",
    status_code=202,
    response_model=DeliveryView,
    summary="Send the same message once more",
    response_description="A new delivery, whose message has the same id.",
    responses=documented(400, 401, 404, 409, 422, 503),
)
async def replay_delivery(
    request: Request, webhook_id: Id, number: Number, caller: Caller, database: Store, _: IdempotencyKey = None
) -> Response:
    refuse_all_recipes(request)

    def answer() -> Made:
        with database.write() as session:
            webhook = store.get(session, webhook_id, live=True)
            return _made(store.replay(session, webhook, store.delivery(session, webhook_id, number)))

    return await carried_out_once(request, caller, _NOTHING, answer)


def _made(delivery: Delivery) -> Made:
    return Made(_delivery(delivery), f"/v1/webhooks/{delivery.webhook_id}/deliveries/{delivery.id}")


def _view(one: Webhook) -> WebhookView:
    return WebhookView(
        id=one.id, url=one.url, events=one.events, description=one.description, created_by=one.created_by,
        created_at=instant(one.created_at), ended=one.ended, ended_at=moment(one.ended_at),
    )  # fmt: skip


def _delivery(one: Delivery) -> DeliveryView:
    return DeliveryView(
        id=one.id, message=one.message_id, event=one.event, state=DeliveryState(one.state), tries=one.tries,
        status=one.status, created_at=instant(one.created_at), tried_at=moment(one.tried_at),
        problem=Problem.model_validate(one.problem) if one.problem else None,
    )  # fmt: skip


def _parsed(content: bytes) -> WebhookRequest:
    try:
        return WebhookRequest.model_validate_json(content)
    except ValidationError as error:
        faults = [
            Fault(field=".".join(map(str, entry["loc"])) or None, message=entry["msg"])
            for entry in error.errors(include_input=False, include_url=False)
        ]
        raise RequestInvalid("; ".join(str(fault) for fault in faults[:3]), errors=faults) from None
