"""The ledger for whoever wants to hold it to its word: checkpoints, tiles, entries and proofs.

`/v1/ledger/` is the prefix of a log as C2SP tlog-tiles has it. Nothing here has to be believed: it is checked with the
key that signs the checkpoints, and with a checkpoint that was kept.
"""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.orm import Session

from builder.api.access import Caller, Store
from builder.api.bodies import read_body
from builder.api.conditional import IMMUTABLE, MAY_CHANGE, tagged
from builder.api.problems import RequestInvalid, documented
from builder.api.views import View
from builder.ledger import checkpoints, serving, stored
from builder.ledger.proof import LedgerProof
from builder.merkle.proofs import root_at
from builder.merkle.tiles import TileInvalid, parse_path
from builder.pipeline.services import Services

router = APIRouter(prefix="/v1/ledger", tags=["ledger"])

_TEXT = "text/plain; charset=utf-8"
_MOST = 2**31 - 1
_ERRORS = documented(401, 404, 422, 503)
_BINARY: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}

Index = Annotated[int, Path(ge=0, le=_MOST, description="Counted from 0.")]
Size = Annotated[int, Query(ge=1, le=_MOST, description="So many entries.")]
RecordDigest = Annotated[
    str | None,
    Query(pattern="^sha256:[0-9a-f]{64}$", description="In place of `index`: the record's digest, or its image's."),
]


class ProofForm(StrEnum):
    JSON = "json"
    TLOG_PROOF = "tlog-proof"


class InclusionView(View):
    """The audit path of an entry, from the leaf upwards (RFC 6962, section 2.1.1). Hashes are in base64; `checkpoint`
    is the signed note of a ledger of this size, if that was ever signed."""

    index: int
    size: int
    leaf_hash: str
    hashes: tuple[str, ...]
    root_hash: str
    checkpoint: str | None


class ConsistencyView(View):
    """That the first entries are still the first (RFC 6962, section 2.1.2). Hashes are in base64."""

    first: int
    second: int
    hashes: tuple[str, ...]
    first_root: str
    second_root: str


class CosignedView(View):
    """Whose cosignatures were taken."""

    size: int
    witnesses: tuple[str, ...]


@router.get(
    "/checkpoint",
    summary="The newest signed checkpoint, with the cosignatures of witnesses (a C2SP signed note)",
    response_class=PlainTextResponse,
    responses=documented(401, 404, 503),
)
def get_checkpoint(_: Caller, database: Store) -> Response:
    with database.read() as session:
        return tagged(checkpoints.newest(session).encode(), _TEXT, cache=MAY_CHANGE)


@router.get(
    "/checkpoints/{size}",
    summary="The checkpoint that was signed at a size",
    response_class=PlainTextResponse,
    responses=_ERRORS,
)
def get_earlier_checkpoint(size: Annotated[int, Path(ge=1, le=_MOST)], _: Caller, database: Store) -> Response:
    with database.read() as session:
        found = checkpoints.find(session, size)
        if found is None:
            raise checkpoints.CheckpointUnknown(f"no checkpoint of size {size} was signed")
        return tagged(found.encode(), _TEXT, cache=MAY_CHANGE)


@router.get(
    "/key",
    summary="The keys that checkpoints were signed with, the newest first (C2SP vkeys, one a line)",
    response_class=PlainTextResponse,
    responses=documented(401, 404, 503),
)
def get_key(_: Caller, database: Store) -> Response:
    with database.read() as session:
        found = checkpoints.keys(session)
    if not found:
        raise checkpoints.CheckpointUnknown("nothing has been signed yet")
    return tagged("".join(f"{key}\n" for key in found).encode(), _TEXT)


@router.get(
    "/entries/{index}",
    summary="An entry: the canonical document that is hashed into the tree",
    response_class=Response,
    responses=_ERRORS,
)
def get_entry(index: Index, _: Caller, database: Store) -> Response:
    with database.read() as session:
        entry = serving.entry_at(session, index).entry
    return tagged(entry or b"", "application/json")


@router.get(
    "/entries/{index}/record",
    summary="The record that an entry names, byte for byte",
    response_class=Response,
    responses=_ERRORS,
)
def get_entrys_record(index: Index, _: Caller, database: Store) -> Response:
    with database.read() as session:
        return tagged(serving.record_at(session, index), "application/json")


@router.get(
    "/proofs/inclusion",
    summary="That an entry is in the ledger",
    response_model=InclusionView,
    responses={**_ERRORS, 200: {"content": {"text/plain": {}}, "model": InclusionView}},
)
def prove_inclusion(
    _: Caller,
    database: Store,
    index: Annotated[int | None, Query(ge=0, le=_MOST, description="Counted from 0.")] = None,
    record: RecordDigest = None,
    size: Annotated[
        int | None, Query(ge=1, le=_MOST, description="In a ledger of so many entries; else the newest checkpoint's.")
    ] = None,
    form: Annotated[
        ProofForm, Query(alias="format", description="`tlog-proof` is C2SP's text, to be kept; it needs a checkpoint.")
    ] = ProofForm.JSON,
) -> InclusionView | Response:
    if (index is None) == (record is None):
        raise RequestInvalid("give one of the two, index and record")
    with database.read() as session:
        place = serving.index_of(session, record) if record is not None else index or 0
        wanted = size or checkpoints.newest_size(session)
        hashes = serving.prove_inclusion(session, place, wanted)
        note = checkpoints.find(session, wanted)
        if form is ProofForm.TLOG_PROOF:
            if note is None:
                raise checkpoints.CheckpointUnknown(f"no checkpoint of size {wanted} was signed")
            proof = LedgerProof(place, tuple(hashes), note.encode())
            return Response(proof.encode(), media_type=_TEXT, headers={"Cache-Control": MAY_CHANGE})
        return InclusionView(
            index=place,
            size=wanted,
            leaf_hash=_base64(stored.nodes(session, wanted)(0, place)),
            hashes=tuple(_base64(one) for one in hashes),
            root_hash=_root(session, wanted),
            checkpoint=note.encode().decode() if note else None,
        )


@router.get("/proofs/consistency", summary="That the ledger has only grown between two sizes", responses=_ERRORS)
def prove_consistency(first: Size, second: Size, _: Caller, database: Store) -> ConsistencyView:
    with database.read() as session:
        return ConsistencyView(
            first=first,
            second=second,
            hashes=tuple(_base64(one) for one in serving.prove_consistency(session, first, second)),
            first_root=_root(session, first),
            second_root=_root(session, second),
        )


@router.get(
    "/tile/{tile:path}",
    summary="A tile of hashes, or with `entries/` a bundle of entries (C2SP tlog-tiles)",
    response_class=Response,
    responses={**_ERRORS, **_BINARY},
)
def get_tile(
    tile: Annotated[str, Path(max_length=100, examples=["0/000", "1/x001/067.p/8", "entries/000.p/17"])],
    _: Caller,
    database: Store,
) -> Response:
    try:
        wanted = parse_path(tile)
    except TileInvalid as error:
        # As a server of static files would: there is nothing of that name.
        raise stored.TileUnknown(error.detail, hint=error.hint) from error
    with database.read() as session:
        content = serving.tile_content(session, wanted)
    return tagged(content, "application/octet-stream", cache=IMMUTABLE)


@router.post(
    "/cosignatures",
    summary="Add a witness's cosignature to a checkpoint (C2SP tlog-cosignature)",
    responses=documented(401, 404, 413, 415, 422, 503),
    openapi_extra={
        "requestBody": {"required": True, "content": {"text/plain": {"schema": {"type": "string"}}}},
    },
)
async def add_cosignatures(request: Request, _: Caller, database: Store) -> CosignedView:
    """The note of a checkpoint, with lines of witnesses that GOLDSMITH_LEDGER_WITNESSES names; others are ignored."""
    services: Services = request.app.state.services
    content = (await read_body(request, ("text/plain",))).content

    def add() -> CosignedView:
        with database.write() as session:
            size, names = checkpoints.add_cosignatures(session, content, services.ledger_witnesses)
        return CosignedView(size=size, witnesses=tuple(names))

    return await anyio.to_thread.run_sync(add)


def _root(session: Session, size: int) -> str:
    return _base64(root_at(size, stored.nodes(session, size)))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
