"""Whom to trust: as the command line says, else the client configuration, else, said aloud, the server's own word."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.invocation import Invocation
from builder.errors import Rejected

if TYPE_CHECKING:
    from sigstore.models import TrustedRoot

    from builder.client.models import TrustOffer

RootOption = Annotated[
    str | None,
    typer.Option("--trusted-root", metavar="FILE", help="Sigstore's trusted root, or 'public' for the public one."),
]
IdentityOption = Annotated[
    str | None, typer.Option("--identity", metavar="ID", help="Who must have signed, as in the certificate.")
]
IssuerOption = Annotated[
    str | None, typer.Option("--issuer", metavar="URL", help="Which OIDC issuer must have vouched for that.")
]

RebuilderOption = Annotated[
    str | None,
    typer.Option("--rebuilder", metavar="ID", help="Who must have rebuilt the image, bit for bit, and attested it."),
]


class TrustIncomplete(Rejected):
    slug = "trust-incomplete"
    title = "It is not said whom to trust"


@dataclass(frozen=True)
class Choice:
    """The options of a command: all, some or none may be given."""

    trusted_root: str | None
    identity: str | None
    issuer: str | None
    rebuilder: str | None = None


@dataclass(frozen=True)
class Trusted:
    """A trusted root and the one identity to accept. `from_server`: the server that is checked gave both itself.
    `rebuilder` is whom to believe a reproduction, of the same issuer; `reproduced`: there must be one."""

    root: TrustedRoot
    identity: str
    issuer: str
    source: str
    from_server: bool
    rebuilder: str | None = None
    reproduced: bool = False


def trusted(invocation: Invocation, given: Choice, *, ask_server: bool = True) -> Trusted:
    """Whom to believe. `ask_server`: where nothing else says it, the server may; in an incident it must not.

    Raises TrustIncomplete, TrustInvalid, TrustUnavailable, and what the client raises when the server is asked."""
    found = invocation.found
    rebuilder = given.rebuilder or (found.configuration.rebuilder if found else None)
    if given.rebuilder is not None and rebuilder is None:
        raise TrustIncomplete("--rebuilder names nobody", hint="give the identity in the rebuilder's certificate")
    return replace(_trusted(invocation, given, ask_server), rebuilder=rebuilder, reproduced=given.rebuilder is not None)


def _trusted(invocation: Invocation, given: Choice, ask_server: bool) -> Trusted:
    found = invocation.found
    kept = found.configuration if found else None
    root, directory, source = given.trusted_root, Path(), "the command line"
    identity, issuer = given.identity, given.issuer
    if kept and found:
        if root is None and kept.trusted_root is not None:
            root, directory = kept.trusted_root, found.path.parent
        identity, issuer = identity or kept.identity, issuer or kept.issuer
        if (root, identity, issuer) != (given.trusted_root, given.identity, given.issuer):
            source = (
                str(found.path)
                if not any((given.trusted_root, given.identity, given.issuer))
                else (f"the command line and {found.path}")
            )
    if root is None and identity is None and issuer is None and ask_server:
        return _from_server(invocation)
    if root is None or identity is None or issuer is None:
        given_by = {"--trusted-root": root, "--identity": identity, "--issuer": issuer}
        missing = " and ".join(name for name, value in given_by.items() if value is None)
        raise TrustIncomplete(
            f"{missing} is missing", hint="the three go together; the client configuration can hold them"
        )
    return Trusted(_load(root, directory), identity, issuer, source, from_server=False)


def _load(root: str, directory: Path) -> TrustedRoot:
    from builder.signing.trust import trusted_root

    return trusted_root("public" if root == "public" else directory / root)


def _from_server(invocation: Invocation) -> Trusted:
    hint = "give --trusted-root, --identity and --issuer, or put them into the client configuration"
    with invocation.client() as client:
        offer = client.trust()
        url = client.url
    if offer.identity is None or offer.issuer is None:
        raise TrustIncomplete(f"{url} does not say whom it signs as", hint=hint)
    return Trusted(_parsed(offer), offer.identity, offer.issuer, f"{url}/v1/trust", from_server=True)


def _parsed(offer: TrustOffer) -> TrustedRoot:
    from builder.signing.trust import trusted_root

    # sigstore reads trusted roots from files only.
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "trusted_root.json"
        file.write_text(json.dumps(offer.trusted_root), encoding="utf-8")
        return trusted_root(file)
