"""The evidence of an image as one file, for whoever verifies it without this service."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from builder.api.access import Caller
from builder.api.images import Digest
from builder.api.problems import documented
from builder.pipeline.evidence_archive import write_archive
from builder.pipeline.rebuilding import image_unknown
from builder.pipeline.services import Services
from builder.store import releases

router = APIRouter(prefix="/v1/images", tags=["images"])

_CHUNK = 1024 * 1024


@router.get(
    "/{digest}/bundle",
    summary="Everything that is needed to verify an image offline, as a tar archive",
    response_class=StreamingResponse,
    responses={**documented(401, 404, 422, 503), 200: {"content": {"application/x-tar": {}}}},
)
def get_bundle(request: Request, digest: Digest, _: Caller) -> StreamingResponse:
    """Manifest, config, signed bundles, inventory, SBOMs, scan, log, record, ledger proof and trusted root, with a
    README that tells how to verify them with stock tools."""
    services: Services = request.app.state.services
    with services.database.read() as session:
        release = releases.of_image(session, digest, services.settings.registry)
    if release is None:
        raise image_unknown(digest)
    # Written whole before the first byte is sent: what fails half way is a problem, not half an archive.
    file = tempfile.TemporaryFile(dir=services.spool)  # noqa: SIM115
    try:
        write_archive(services, release, file)
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    name = f"{release.recipe_name}-{digest.removeprefix('sha256:')[:12]}.tar"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(size)}
    return StreamingResponse(_chunks(file), media_type="application/x-tar", headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk
