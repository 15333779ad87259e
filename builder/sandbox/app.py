"""The sandbox over HTTP: OpenID Connect issuer, Fulcio v2 certificates, Rekor v1 log."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, JsonValue

from builder.sandbox.certificates import pem
from builder.sandbox.entries import EntryRefused, canonical_body
from builder.sandbox.fulcio import CertificateRequest, RequestRefused
from builder.sandbox.log import DuplicateEntry, LogEntry
from builder.sandbox.marking import ORGANISATION
from builder.sandbox.oidc import TokenRefused, TokenResponse
from builder.sandbox.state import State

# A DSSE entry carries its whole envelope, and an inventory of an image runs to several megabytes.
MAX_BODY = 64 * 1024 * 1024

_UUID = r"^([0-9a-f]{16})?[0-9a-f]{64}$"


class Health(BaseModel):
    """That the sandbox answers, and how far its log has grown."""

    status: str
    operator: str
    tree_size: int


async def _body(request: Request) -> bytes:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_BODY:
            raise HTTPException(413, f"a request may have {MAX_BODY} bytes at most")
    return bytes(received)


Body = Annotated[bytes, Depends(_body)]


def create_app(state: State) -> FastAPI:
    """The application over an open state directory."""
    app = FastAPI(title=ORGANISATION, openapi_url=None)
    log, issuer, authority = state.log, state.issuer, state.keys.authority

    @app.exception_handler(HTTPException)
    def problem(_: Request, error: HTTPException) -> Response:
        # The form both Fulcio's and Rekor's clients look for an explanation in.
        return _refusal(error.status_code, str(error.detail))

    @app.get("/healthz")
    def health() -> Health:
        return Health(status="ok", operator=ORGANISATION, tree_size=log.size)

    @app.get("/.well-known/openid-configuration")
    def discovery() -> dict[str, str | list[str]]:
        return issuer.discovery()

    @app.get("/oidc/jwks")
    def key_set() -> dict[str, list[dict[str, str]]]:
        return issuer.key_set()

    @app.post("/oidc/token")
    def token(body: Body, response: Response, authorization: Annotated[str | None, Header()] = None) -> TokenResponse:
        response.headers["Cache-Control"] = "no-store"
        return issuer.grant(body, authorization)

    @app.exception_handler(TokenRefused)
    def token_refused(request: Request, error: TokenRefused) -> Response:
        # Only the token endpoint speaks OAuth 2.0 (RFC 6749, section 5.2).
        if request.url.path == "/oidc/token":
            status = 401 if error.code == "invalid_client" else 400
            return JSONResponse({"error": error.code, "error_description": str(error)}, status)
        return _refusal(401, str(error))

    @app.post("/api/v2/signingCert")
    def certify(body: Body, authorization: Annotated[str | None, Header()] = None) -> dict[str, JsonValue]:
        try:
            request = CertificateRequest.parse(body)
            claims = issuer.verify(request.token(authorization))
            key = request.proven_key(claims)
        except RequestRefused as error:
            raise HTTPException(400, str(error)) from error
        leaf = authority.issue(key, identity=claims.sub, issuer=claims.iss, ct=state.keys.ct)
        chain: list[JsonValue] = [pem(each).decode() for each in (leaf, authority.certificate, authority.root)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    @app.get("/api/v2/trustBundle")
    def trust_bundle() -> dict[str, JsonValue]:
        chain: list[JsonValue] = [pem(each).decode() for each in (authority.certificate, authority.root)]
        return {"chains": [{"certificates": chain}]}

    @app.post("/api/v1/log/entries", status_code=201)
    def append(body: Body) -> Response:
        try:
            entry = log.append(canonical_body(body, authority.certificate))
        except EntryRefused as error:
            raise HTTPException(400, str(error)) from error
        except DuplicateEntry as error:
            location = f"/api/v1/log/entries?logIndex={error.log_index}"
            return _refusal(409, str(error), {"Location": location})
        uuid = log.tree_id + entry.leaf.hex()
        return JSONResponse({uuid: _described(entry)}, 201, {"Location": f"/api/v1/log/entries/{uuid}"})

    @app.get("/api/v1/log/entries")
    def entry_by_index(log_index: Annotated[int, Query(alias="logIndex", ge=0, lt=2**63)]) -> dict[str, JsonValue]:
        return _found(log.by_index(log_index))

    @app.get("/api/v1/log/entries/{uuid}")
    def entry_by_uuid(uuid: Annotated[str, Path(pattern=_UUID)]) -> dict[str, JsonValue]:
        return _found(log.by_leaf(bytes.fromhex(uuid[-64:])))

    def _found(entry: LogEntry | None) -> dict[str, JsonValue]:
        if entry is None:
            raise HTTPException(404, "the log has no such entry")
        return {log.tree_id + entry.leaf.hex(): _described(entry)}

    @app.get("/api/v1/log")
    def log_info() -> dict[str, JsonValue]:
        checkpoint = log.checkpoint()
        _, size, root, *_ = checkpoint.splitlines()
        return {
            "treeID": log.tree_id,
            "treeSize": int(size),
            "rootHash": base64.b64decode(root).hex(),
            "signedTreeHead": checkpoint,
            "inactiveShards": [],
        }

    @app.get("/api/v1/log/proof")
    def consistency(
        last: Annotated[int, Query(alias="lastSize", ge=1)], first: Annotated[int, Query(alias="firstSize", ge=1)] = 1
    ) -> dict[str, JsonValue]:
        try:
            hashes: list[JsonValue] = [each.hex() for each in log.consistency_proof(first, last)]
        except IndexError as error:
            raise HTTPException(400, str(error)) from error
        return {"rootHash": log.root(last).hex(), "hashes": hashes}

    return app


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"code": status, "message": message}, status, headers)


def _described(entry: LogEntry) -> dict[str, JsonValue]:
    """An entry in the form of Rekor v1's API."""
    proof = entry.proof
    return {
        "body": base64.b64encode(entry.body).decode(),
        "integratedTime": entry.integrated_time,
        "logID": entry.log_id.hex(),
        "logIndex": proof.log_index,
        "verification": {
            "signedEntryTimestamp": base64.b64encode(entry.promise).decode(),
            "inclusionProof": {
                "checkpoint": proof.checkpoint,
                "hashes": [each.hex() for each in proof.hashes],
                "logIndex": proof.log_index,
                "rootHash": proof.root.hex(),
                "treeSize": proof.tree_size,
            },
        },
    }
