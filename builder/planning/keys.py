"""The key of a build: a digest over all that decides the image, so that equal keys mean equal images."""

from __future__ import annotations

import hashlib

import rfc8785
from pydantic import JsonValue

from builder import __version__
from builder.derived import derived
from builder.planning.lock import Lock


@derived(8)
def build_key(recipe_digest: str, lock: Lock) -> str:
    """`recipe_digest` is of the whole recipe: its tests and its policy decide whether there is an image at all.

    What a lock says of itself, such as who made it and from which index, decides nothing and is left out.
    """
    inputs: dict[str, JsonValue] = {
        "builder": __version__,
        "recipe": recipe_digest,
        "epoch": lock.epoch,
        "architecture": lock.base.architecture,
        "base": lock.base.image_digest,
        "bootstrap": [package.sha256 for package in lock.base.packages],
        "packages": [package.sha256 for package in lock.packages],
        "files": [[file.path, file.sha256] for file in lock.files],
    }
    return "sha256:" + hashlib.sha256(rfc8785.dumps(inputs)).hexdigest()
