"""The bytes of a recipe's files."""

from __future__ import annotations

import base64

from builder.recipes.model import File


def content_of(file: File) -> bytes:
    """The bytes of a file whose source has been embedded."""
    if file.content is not None:
        return file.content.encode("utf-8")
    assert file.content_base64 is not None, "sources are embedded before a build begins"
    return base64.b64decode(file.content_base64)
