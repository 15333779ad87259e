"""Large request bodies: written to disk as they come, hashed on the way, within a limit, and gone at the end."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from builder.api.bodies import BodyTooLarge, MediaTypeUnsupported
from builder.errors import Rejected, Unavailable

_WRITTEN_AT_ONCE = 1024 * 1024


class UploadCutShort(Rejected):
    slug = "upload-cut-short"
    title = "The upload ended before it was complete"
    status = 400


class NoRoom(Unavailable):
    slug = "no-room-for-upload"
    title = "There is no room for the upload"


@dataclass(frozen=True)
class Upload:
    """`file` can be opened for as long as the upload is held; it has no name that others could see or that could be
    left behind. `size` is in bytes."""

    file: Path
    digest: str
    size: int


def media_type_of(request: Request, accepted: Collection[str]) -> str:
    """Raises MediaTypeUnsupported."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type not in accepted:
        raise MediaTypeUnsupported(f"{media_type or 'no type'} is not understood", hint=f"send {', '.join(accepted)}")
    return media_type


@asynccontextmanager
async def uploaded(request: Request, directory: Path, limit: int) -> AsyncIterator[Upload]:
    """Raises BodyTooLarge, before anything is read where the length is told; UploadCutShort; NoRoom."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise _too_large(limit)
    with tempfile.TemporaryFile(dir=directory) as out:
        digest, size, waiting = hashlib.sha256(), 0, bytearray()

        def write(data: bytes) -> None:
            digest.update(data)
            try:
                out.write(data)
                out.flush()
            except OSError as error:
                raise NoRoom(f"the upload could not be kept: {error.strerror}") from error

        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                waiting += chunk
                if len(waiting) >= _WRITTEN_AT_ONCE:
                    await anyio.to_thread.run_sync(write, bytes(waiting))
                    waiting.clear()
        except ClientDisconnect as error:
            raise UploadCutShort(f"the connection ended after {size} bytes", hint="send it again") from error
        if told.isdigit() and size != int(told):
            raise UploadCutShort(f"{size} of {told} bytes came", hint="send it again")
        await anyio.to_thread.run_sync(write, bytes(waiting))
        yield Upload(Path(f"/proc/self/fd/{out.fileno()}"), f"sha256:{digest.hexdigest()}", size)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"an upload to compare may have {limit} bytes",
        hint="compress it, or send its inventory, as `goldsmith inventory` takes it",
    )
