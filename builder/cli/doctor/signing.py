"""What a host that signs needs: a Sigstore that answers, an identity of its own, and the ledger's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.doctor.findings import Check, Finding, fail, ok, warn

if TYPE_CHECKING:
    from builder.settings import Settings

_SECONDS = 5.0


def checks(role: str, settings: Settings) -> list[Check]:
    sigstore = Check("sigstore", lambda: _sigstore(settings), "check GOLDSMITH_SIGSTORE_TRUST_CONFIG")
    identity = Check("identity", lambda: _identity(settings, role), "set GOLDSMITH_IDENTITY_TOKEN_FILE or …_URL")
    ledger = Check("ledger-key", lambda: _ledger_key(settings), "`goldsmith ledger key generate FILE` makes one")
    return {"release": [sigstore, identity, ledger], "rebuild": [sigstore, identity]}.get(role, [])


def _sigstore(settings: Settings) -> Finding:
    """Configuration, certificate authority and log. Both are asked for something harmless: any answer will do."""
    import httpx
    from sigstore._internal.rekor.client import RekorClient
    from sigstore._internal.rekor.client_v2 import RekorV2Client

    from builder.signing.loopback import is_loopback
    from builder.signing.trust import client_trust

    config = client_trust(settings.sigstore_trust_config or "public").signing_config
    log = config.get_tlogs()[0]
    assert isinstance(log, RekorClient | RekorV2Client), "sigstore has no other"
    for what, url in (("Fulcio", config.get_fulcio().url), ("Rekor", log.url)):
        try:
            answer = httpx.get(url, timeout=_SECONDS, trust_env=not is_loopback(url))
        except httpx.HTTPError as error:
            return fail(f"{what} at {url} does not answer: {error}", "start it, or mend the way there; releases wait")
        if answer.status_code >= 500:
            return fail(f"{what} at {url} answers with {answer.status_code}", "see its log; releases wait meanwhile")
    return ok(f"{settings.sigstore_trust_config or 'the public Sigstore'}: Fulcio and Rekor answer")


def _identity(settings: Settings, role: str) -> Finding:
    from sigstore.oidc import IdentityError, IdentityToken

    from builder.pipeline.services import identity_source

    try:
        token = IdentityToken(identity_source(settings).token())
    except IdentityError as error:
        return fail(f"the identity token is of no use: {error}", "check what issues it, and this machine's clock")
    own = "REBUILDER" if role == "rebuild" else "SIGNER"
    wanted = settings.rebuilder_identity if role == "rebuild" else settings.signer_identity
    issuer = settings.rebuilder_issuer if role == "rebuild" else settings.signer_issuer
    if wanted is None:
        return warn(f"a token for {token.identity}, whoever that is",
                    f"set GOLDSMITH_{own}_IDENTITY and …_ISSUER, so that nobody else signs")  # fmt: skip
    if (token.identity, token.federated_issuer) != (wanted, issuer):
        return fail(f"the token is for {token.identity} by {token.federated_issuer}, not {wanted} by {issuer}",
                    f"set GOLDSMITH_{own}_IDENTITY and …_ISSUER, or use another identity")  # fmt: skip
    return ok(f"a token for {wanted}")


def _ledger_key(settings: Settings) -> Finding:
    from builder.pipeline.services import Services

    services = Services(settings)
    try:
        return ok(f"{settings.ledger_key_file}, of {services.ledger_key.origin}")
    finally:
        services.database.close()
