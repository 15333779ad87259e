"""An image's own documents, from the registry, for who has nothing but its digest: each names the next by digest."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from builder.api.access import Caller
from builder.api.conditional import IMMUTABLE, NOT_MODIFIED, tagged
from builder.api.images import Digest
from builder.api.problems import documented
from builder.image.documents import MAX_DOCUMENT, parse_manifest
from builder.pipeline.rebuilding import image_unknown
from builder.pipeline.services import Services
from builder.registry.manifests import FetchedManifest
from builder.store import releases

router = APIRouter(prefix="/v1/images", tags=["images"])

_ERRORS = {**documented(401, 404, 422, 503), **NOT_MODIFIED}


@router.get("/{digest}/manifest", summary="The image's manifest", response_class=Response, responses=_ERRORS)
def get_manifest(request: Request, digest: Digest, _: Caller) -> Response:
    found = _manifest(request.app.state.services, digest)
    return _by_digest(found.data, found.media_type, digest)


@router.get("/{digest}/config", summary="The image's config", response_class=Response, responses=_ERRORS)
def get_config(request: Request, digest: Digest, _: Caller) -> Response:
    services: Services = request.app.state.services
    found = _manifest(services, digest)
    config = parse_manifest(found.data).config
    content = services.impatient_registry.blobs.fetch(found.repository, config, limit=MAX_DOCUMENT)
    return _by_digest(content, config.media_type, config.digest)


def _manifest(services: Services, digest: str) -> FetchedManifest:
    """Raises ImageUnknown, and what the registry raises."""
    with services.database.read() as session:
        release = releases.of_image(session, digest, services.settings.registry)
    if release is None:
        raise image_unknown(digest)
    return services.impatient_registry.manifests.get(services.released(release.repository).at(digest))


def _by_digest(content: bytes, media_type: str, digest: str) -> Response:
    return tagged(content, media_type, digest=digest, cache=IMMUTABLE)
