"""What is signed of an image: each attestation a Sigstore bundle, by its kind or by its digest."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from builder.api.access import Caller, Store
from builder.api.conditional import IMMUTABLE, MAY_CHANGE, NOT_MODIFIED, tagged
from builder.api.images import Digest
from builder.api.paging import next_page
from builder.api.problems import documented
from builder.errors import Rejected
from builder.pipeline.rebuilding import image_unknown
from builder.store import attachments
from builder.store.attachments import Kind
from builder.store.schema import Attachment

router = APIRouter(prefix="/v1/images", tags=["images"])

_DIGEST = r"sha256:[0-9a-f]{64}"


class AttestationKind(StrEnum):
    """As the path names them."""

    PROVENANCE = "provenance"
    SIGNATURE = "signature"
    TESTS = "tests"
    SCAN = "scan"
    VERDICT = "verdict"
    SBOM = "sbom"
    REFERENCES = "references"
    REPRODUCTION = "reproduction"


KINDS = {
    Kind.PROVENANCE: AttestationKind.PROVENANCE,
    Kind.SIGNATURE: AttestationKind.SIGNATURE,
    Kind.TESTS: AttestationKind.TESTS,
    Kind.SCAN_ATTESTATION: AttestationKind.SCAN,
    Kind.VERDICT: AttestationKind.VERDICT,
    Kind.SBOM_ATTESTATION: AttestationKind.SBOM,
    Kind.REFERENCES: AttestationKind.REFERENCES,
    Kind.REPRODUCTION: AttestationKind.REPRODUCTION,
}


class AttestationMissing(Rejected):
    slug = "attestation-missing"
    title = "The image has no such attestation"
    status = 404


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class AttestationView(_Answer):
    """One bundle. `referrer` is the digest under which the registry has it beside the image."""

    kind: AttestationKind
    digest: str = Field(description="Of the bundle, as it is served and published.")
    referrer: str | None
    build: str = Field(description="The build, or rebuild, that made it.")


class AttestationPage(_Answer):
    attestations: list[AttestationView]
    next: str | None = Field(description="The path of the next page, or null on the last.")


@router.get(
    "/{digest}/attestations", summary="List what is signed of an image", responses=documented(401, 404, 422, 503)
)
def list_attestations(
    request: Request,
    digest: Digest,
    _: Caller,
    database: Store,
    after: Annotated[
        # Two builds may have attached the same bundle: a digest would not say which of them.
        int | None, Query(ge=1, lt=2**63, description="Only those that come after this place, as `next` has it.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AttestationPage:
    """Those of every release of the image, newest first, and of every rebuild that found it equal."""
    with database.read() as session:
        found = attachments.signed_of_image(session, digest, list(KINDS))
        if not found:
            raise image_unknown(digest)
    if after is not None:
        places = [place for place, one in enumerate(found) if one.id == after]
        if not places:
            raise AttestationMissing(f"{digest} has no attestation at {after}", hint="begin anew, without `after`")
        found = found[places[0] + 1 :]
    following = None
    if len(found) > limit:
        following = next_page(request, after=found[limit - 1].id)
    return AttestationPage(attestations=[_view(one) for one in found[:limit]], next=following)


@router.get(
    "/{digest}/attestations/{attestation}",
    summary="A signed attestation of an image, as a Sigstore bundle",
    response_class=Response,
    responses={**documented(401, 404, 422, 503), **NOT_MODIFIED},
)
def get_attestation(
    digest: Digest,
    attestation: Annotated[
        str,
        Path(
            pattern=f"^({'|'.join(AttestationKind)}|{_DIGEST})$",
            description="A kind, for the newest of it, or a bundle's digest.",
            examples=["provenance"],
        ),
    ],
    _: Caller,
    database: Store,
) -> Response:
    with database.read() as session:
        found = attachments.signed_of_image(session, digest, list(KINDS))
        if not found:
            raise image_unknown(digest)
        for one in found:
            if attestation in (KINDS[Kind(one.kind)], one.blob_digest):
                content = attachments.content(session, one)
                cache = IMMUTABLE if attestation == one.blob_digest else MAY_CHANGE
                return tagged(content, one.media_type, digest=one.blob_digest, cache=cache)
    there = ", ".join(sorted({KINDS[Kind(one.kind)] for one in found}))
    raise AttestationMissing(f"{digest} has no attestation {attestation}", hint=f"there are: {there}")


def _view(one: Attachment) -> AttestationView:
    return AttestationView(
        kind=KINDS[Kind(one.kind)], digest=one.blob_digest, referrer=one.referrer_digest, build=one.build_id
    )
