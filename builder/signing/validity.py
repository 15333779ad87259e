"""Keys of a trusted root count for the time in which they were valid.

sigstore verifies against every key that is in a root, ended or not (`allow_expired`), and leaves it there. A key that
was taken out of service, because it leaked for one, would be believed for ever: here only those are left that were
valid when the bundle says it was signed. Times are inclusive, as in sigstore's protobuf specification, `TimeRange`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from sigstore.models import Bundle, TrustedRoot
from sigstore_models.bundle.v1 import Bundle as BundleFields
from sigstore_models.common.v1 import TimeRange
from sigstore_models.trustroot.v1 import CertificateAuthority, TransparencyLogInstance

_Key = TypeVar("_Key", TransparencyLogInstance, CertificateAuthority)


class NoKeyThen(ValueError):
    """No key of a kind was valid at the time."""


def signed_at(bundle: Bundle, fields: BundleFields) -> datetime:
    """When the log took the entry, as far as it signs that; else when the certificate begins, ten minutes at the most
    before the signature. Neither is verified yet: sigstore does it, with the keys of that time."""
    entry = fields.verification_material.tlog_entries[0]
    if entry.inclusion_promise is not None and entry.integrated_time is not None:
        return datetime.fromtimestamp(entry.integrated_time, UTC)
    return bundle.signing_certificate.not_valid_before_utc


def root_at(root: TrustedRoot, moment: datetime) -> TrustedRoot:
    """The root with the keys that were valid then. Raises NoKeyThen."""
    inner = root._inner
    return TrustedRoot(
        inner.model_copy(
            update={
                "tlogs": _valid(inner.tlogs, moment, "transparency log"),
                "ctlogs": _valid(inner.ctlogs, moment, "certificate log"),
                "certificate_authorities": _valid(inner.certificate_authorities, moment, "certificate authority"),
            }
        )
    )


def _valid(keys: Sequence[_Key], moment: datetime, kind: str) -> list[_Key]:
    found = [key for key in keys if _holds(_range(key), moment)]
    if not found:
        raise NoKeyThen(f"the trusted root has no key of a {kind} that was valid at {moment:%Y-%m-%d %H:%M:%S} UTC")
    return found


def _range(key: TransparencyLogInstance | CertificateAuthority) -> TimeRange | None:
    return key.valid_for if isinstance(key, CertificateAuthority) else key.public_key.valid_for


def _holds(valid: TimeRange | None, moment: datetime) -> bool:
    if valid is None:
        return True
    return (valid.start is None or valid.start <= moment) and (valid.end is None or moment <= valid.end)
