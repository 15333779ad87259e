"""Whom to trust, and where to sign: a Sigstore instance described in a file, or the public one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sigstore.models import ClientTrustConfig, TrustedRoot

from builder.errors import Broken, Unavailable

Trust = Path | Literal["public"]


class TrustInvalid(Broken):
    slug = "trust-invalid"
    title = "The Sigstore trust configuration cannot be used"


class TrustUnavailable(Unavailable):
    slug = "trust-unavailable"
    title = "The public Sigstore's trusted root cannot be obtained"


def client_trust(trust: Trust) -> ClientTrustConfig:
    """A client trust configuration, for signing. "public" is brought up to date over the network (TUF).

    Raises TrustInvalid or TrustUnavailable.
    """
    if trust == "public":
        return _public()
    try:
        return ClientTrustConfig.from_json(trust.read_text("utf-8"))
    except Exception as error:
        raise _invalid(trust, "client trust configuration", error) from error


def trusted_root(trust: Trust) -> TrustedRoot:
    """A trusted root, for verifying. A file is read offline; "public" is brought up to date over the network (TUF).

    Raises TrustInvalid or TrustUnavailable.
    """
    if trust == "public":
        return _public().trusted_root
    try:
        return TrustedRoot.from_file(str(trust))
    except Exception as error:
        raise _invalid(trust, "trusted root", error) from error


def _public() -> ClientTrustConfig:
    try:
        return ClientTrustConfig.production()
    except Exception as error:
        raise TrustUnavailable(
            f"the public Sigstore's trusted root cannot be brought up to date: {error}",
            hint="check that this machine reaches the internet, or name a trust configuration file",
        ) from error


def _invalid(path: Path, what: str, error: Exception) -> TrustInvalid:
    why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error).splitlines()[0]
    return TrustInvalid(f"{path} is not a usable {what}: {why}", hint="use the file the Sigstore instance publishes")
