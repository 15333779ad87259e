"""Whom to trust: as the command line says, else the client configuration, else, said aloud, the server's own word."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.invocation import Invocation
from builder.cli.ledger_keys import read_keys
from builder.errors import Rejected
from builder.verification.trust import Signatory, Trusted

if TYPE_CHECKING:
    from sigstore.models import TrustedRoot

    from builder.cli.configuration import Configuration
    from builder.client.models import TrustOffer
    from builder.ledger.note import VerifierKey
    from builder.verification.policy import VerificationPolicy

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
    """The options of a command: all, some or none may be given. `directory` has the trusted root's file.

    `also` and `ledger_keys` come from a policy; `ledger_key` is a key or a file. `source` says who chose."""

    trusted_root: str | None
    identity: str | None
    issuer: str | None
    rebuilder: str | None = None
    also: tuple[Signatory, ...] = ()
    ledger_key: str | None = None
    ledger_keys: tuple[str, ...] = ()
    directory: Path = Path()
    source: str = "the command line"


def with_policy(given: Choice, policy: VerificationPolicy, file: Path) -> Choice:
    """What the policy says of trust, and of what it does not tell the command's options. Raises TrustIncomplete if both
    tell the same."""
    spec, source = policy.spec, str(file)
    for option, one, other in (
        ("--trusted-root", given.trusted_root, spec.trusted_root),
        ("--identity", given.identity, spec.signers or None),
        ("--issuer", given.issuer, spec.signers or None),
        ("--rebuilder", given.rebuilder, spec.rebuilt_by),
        ("--ledger-key", given.ledger_key, spec.ledger_keys or None),
    ):
        if one is not None and other is not None:
            raise TrustIncomplete(
                f"{option} and {file} both say it", hint=f"leave {option} out, or take it from the policy"
            )
    first, *also = policy.signatories or (Signatory("", ""),)
    if given.trusted_root or given.identity or given.issuer:
        source = f"the command line and {file}"
    return replace(
        given,
        trusted_root=spec.trusted_root if given.trusted_root is None else given.trusted_root,
        directory=file.parent if given.trusted_root is None else given.directory,
        identity=(first.identity or None) if given.identity is None else given.identity,
        issuer=(first.issuer or None) if given.issuer is None else given.issuer,
        also=tuple(also),
        rebuilder=spec.rebuilt_by if given.rebuilder is None else given.rebuilder,
        ledger_keys=tuple(spec.ledger_keys),
        source=source if spec.trusted_root or spec.signers else given.source,
    )


def trusted(invocation: Invocation, given: Choice, *, ask_server: bool = True, believe_server: bool = True) -> Trusted:
    """Whom to believe. Where nothing else says it, the server may, if it is asked and believed; in an incident it must
    not be. Unless it is asked, nothing is fetched from elsewhere either.

    Raises TrustIncomplete, TrustInvalid, TrustUnavailable, and what the client raises when the server is asked."""
    found = invocation.found
    rebuilder = given.rebuilder or (found.configuration.rebuilder if found else None)
    if given.rebuilder is not None and rebuilder is None:
        raise TrustIncomplete("--rebuilder names nobody", hint="give the identity in the rebuilder's certificate")
    return replace(
        _trusted(invocation, given, ask_server, believe_server),
        rebuilder=rebuilder,
        reproduced=given.rebuilder is not None,
        also=given.also,
        ledger_keys=_ledger_keys(given, found.configuration if found else None),
        recorded=given.ledger_key is not None or bool(given.ledger_keys),
    )


def _ledger_keys(given: Choice, kept: Configuration | None) -> tuple[VerifierKey, ...]:
    from builder.ledger.note import parse_key

    if given.ledger_keys:
        return tuple(parse_key(one) for one in given.ledger_keys)
    text = given.ledger_key or (kept.ledger_key if kept else None)
    return tuple(read_keys(text)) if text is not None else ()


def _trusted(invocation: Invocation, given: Choice, ask_server: bool, believe_server: bool) -> Trusted:
    found = invocation.found
    kept = found.configuration if found else None
    root, directory, source = given.trusted_root, given.directory, given.source
    identity, issuer = given.identity, given.issuer
    if kept and found:
        if root is None and kept.trusted_root is not None:
            root, directory = kept.trusted_root, found.path.parent
        identity, issuer = identity or kept.identity, issuer or kept.issuer
        if (root, identity, issuer) != (given.trusted_root, given.identity, given.issuer):
            source = (
                str(found.path)
                if not any((given.trusted_root, given.identity, given.issuer))
                else f"{given.source} and {found.path}"
            )
    if root is None and identity is None and issuer is None and ask_server and believe_server:
        return _from_server(invocation)
    if root is None or identity is None or issuer is None:
        given_by = {"--trusted-root": root, "--identity": identity, "--issuer": issuer}
        missing = " and ".join(name for name, value in given_by.items() if value is None)
        raise TrustIncomplete(
            f"{missing} is missing", hint="the three go together; the client configuration can hold them"
        )
    if root == "public" and not ask_server:
        raise TrustIncomplete("the public trusted root is fetched", hint="offline, name a file that was kept")
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
