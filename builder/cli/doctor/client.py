"""What a client needs: a configuration, an API that answers, a key that it knows, and whom to trust."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from builder.cli.doctor.findings import Check, Finding, fail, ok, warn
from builder.cli.invocation import Invocation

_SOON = timedelta(days=7)


def checks(invocation: Invocation) -> list[Check]:
    return [
        Check("configuration", lambda: _configuration(invocation), "see docs/cli.md#configuration"),
        Check("api", lambda: _api(invocation), "start the API, or name another with --url or GOLDSMITH_URL"),
        Check("key", lambda: _key(invocation), "`goldsmith login` keeps another key"),
        Check("trust", lambda: _trust(invocation), "see docs/cli.md#configuration"),
    ]


def _configuration(invocation: Invocation) -> Finding:
    found = invocation.found
    connection = invocation.connection()
    where = f"{found.path}, " if found else "none, "
    return ok(f"{where}the API is {connection.url}, with {'a' if connection.key else 'no'} key")


def _api(invocation: Invocation) -> Finding:
    from builder.client.models import Health

    with invocation.client() as client:
        told = client.ask(Health, "GET", "/readyz")
    away = [f"{name}: {how}" for name, how in told.checks.items() if how != "ok"]
    if away:
        mend = "an operator runs `goldsmith doctor --role api` on its host"
        return warn(f"{client.url} answers, but {'; '.join(away)}", mend)
    return ok(f"{client.url} is ready")


def _key(invocation: Invocation) -> Finding:
    from builder.client.errors import ApiUnreachable
    from builder.client.whoami import who

    login = "`goldsmith login` keeps a key; an operator makes one: `goldsmith key create NAME --scope SCOPE`"
    if invocation.connection().key is None:
        return fail("there is no key", login)
    try:
        with invocation.client() as client:
            told = who(client)
    except ApiUnreachable:
        return warn("not tried: the API does not answer", "mend that first")
    may = f"{told.name} may {', '.join(told.scopes) or 'nothing'}"
    if told.expires_at is not None and told.expires_at < datetime.now(UTC) + _SOON:
        return warn(f"{may}, but only until {told.expires_at:%Y-%m-%d %H:%M} UTC", login)
    return ok(may)


def _trust(invocation: Invocation) -> Finding:
    from builder.signing.trust import trusted_root

    found = invocation.found
    kept = found.configuration if found else None
    if found is None or kept is None or kept.trusted_root is None:
        return warn(
            "no configuration says whom to trust: `goldsmith verify` would ask the service that it checks",
            "put trustedRoot, identity and issuer into the client configuration",
        )
    trust = kept.trusted_root
    trusted_root("public" if trust == "public" else found.path.parent / Path(trust))
    if kept.identity is None or kept.issuer is None:
        return warn(f"{trust} can be read, but whose signatures to believe is not told",
                    "put identity and issuer beside trustedRoot")  # fmt: skip
    return ok(f"{trust}, signatures by {kept.identity}")
