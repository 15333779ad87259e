"""What is not in an image cannot be attacked, and need not be pulled. The compressed size is that of all layers as
they are pulled, the unpacked one that of all files, each counted once.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts
from builder.policy.rule import Judgement, Rule, unknown
from builder.policy.strictness import LOWEST, Parameters
from builder.policy.verdict import Offender

_REMEDY = "take packages out, set spec.hardening.removeDocumentation, or raise the limit"


class ImageSize(Parameters):
    """How large the image may be, in bytes."""

    maximum_compressed_bytes: Annotated[int | None, Field(ge=1, le=2**50), LOWEST] = Field(
        default=None, description="The sum of its layers as they are pulled."
    )
    maximum_unpacked_bytes: Annotated[int | None, Field(ge=1, le=2**50), LOWEST] = Field(
        default=None, description="The sum of its files."
    )


def judge(facts: Facts, parameters: ImageSize) -> Judgement:
    sizes = (
        ("compressed", facts.image.compressed_bytes if facts.image else None, parameters.maximum_compressed_bytes),
        ("unpacked", facts.files.unpacked_bytes if facts.files else None, parameters.maximum_unpacked_bytes),
    )
    told, offenders = [], []
    for name, size, limit in sizes:
        if size is None:
            if limit is not None:
                return unknown(f"the image's {name} size", "build the image again")
            continue
        told.append(f"{size} bytes {name}")
        if limit is not None and size > limit:
            offenders.append(Offender(id=name, subject=f"{size} bytes, {size - limit} too many", remedy=_REMEDY))
    return Judgement(
        not offenders, f"The image has {' and '.join(told) or 'a size that no limit is set for'}.", tuple(offenders)
    )


RULE = Rule(
    name="imageSize",
    title="The image is not too large",
    parameters=ImageSize,
    judge=judge,
    field=None,
    remedy=_REMEDY,
    example={"maximumCompressedBytes": 100_000_000, "maximumUnpackedBytes": 300_000_000},
)
