"""Who says that an image was rebuilt and is the same, and whether to believe it. docs/formats/reproduction.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from builder.signing.statement import REPRODUCTION
from builder.signing.verification import VerificationFailed, VerifiedStatement, verify_bundle
from builder.verification.trust import Trusted

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Reproduction:
    """A verified statement of the rebuilder's. Without `bit_for_bit` the content is the same, compressed otherwise."""

    signed: VerifiedStatement
    bit_for_bit: bool

    def __str__(self) -> str:
        how = "bit for bit" if self.bit_for_bit else "by config and diff IDs; its layers were compressed otherwise"
        time = f" at {self.signed.integrated_time:%Y-%m-%d %H:%M:%S} UTC" if self.signed.integrated_time else ""
        return f"{how}, by {self.signed.identity}{time}"


def reproductions_of(
    bundles: Sequence[bytes], digest: str, trust: Trusted
) -> tuple[list[Reproduction], tuple[str, ...]]:
    """What the rebuilder attested, the newest first, and why other such bundles are not believed."""
    if trust.rebuilder is None:
        untold = "it says that the image was rebuilt; --rebuilder tells whom to believe that"
        return [], (untold,) * len(bundles)
    found: list[Reproduction] = []
    disbelieved: list[str] = []
    for bundle in bundles:
        try:
            signed = verify_bundle(
                bundle,
                trusted_root=trust.root,
                identity=trust.rebuilder,
                issuer=trust.issuer,
                digest=digest,
                predicate_type=REPRODUCTION,
            )
        except VerificationFailed as error:
            disbelieved.append(f"it says that the image was rebuilt, but: {error.detail}")
            continue
        matched = signed.statement.predicate.get("matched")
        equal = {name for name, value in matched.items() if value is True} if isinstance(matched, dict) else set()
        if "inventory" in equal and equal & {"manifest", "config"}:
            found.append(Reproduction(signed, "manifest" in equal))
        else:
            disbelieved.append(f"{signed.identity} rebuilt the image, but does not say that it is equal")
    found.sort(key=lambda one: (one.signed.integrated_time or _EPOCH, one.signed.log_index), reverse=True)
    return found, tuple(disbelieved)
