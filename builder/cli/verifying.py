"""The command that verifies an image: in a registry, by the API, or from an archive alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import exits
from builder.cli.evidence import DockerConfigOption, digest_alone, evidence_of
from builder.cli.invocation import Invocation, Json, invocation_of
from builder.cli.ledger_keys import LedgerKeyOption, content_of
from builder.cli.trusting import (
    Choice,
    IdentityOption,
    IssuerOption,
    RebuilderOption,
    RootOption,
    trusted,
    with_policy,
)

if TYPE_CHECKING:
    from builder.verification.evidence import Evidence
    from builder.verification.expected import Expected
    from builder.verification.image import Verification
    from builder.verification.policy import VerificationPolicy

_ALL = "all"
RequireOption = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="KIND",
        help="What must be signed beside it: signature, tests, scan, gate, sbom, references, or all. Repeatable.",
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command()(verify)


def verify(
    context: typer.Context,
    image: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIGEST|ARCHIVE",
            help="HOST/REPOSITORY@sha256:… or :TAG, checked against the registry; a digest, asked of the API; or "
            "a file that `goldsmith bundle` wrote.",
            show_default=False,
        ),
    ],
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="Whom to trust and what to expect: docs/verifying.md."),
    ] = None,
    trusted_root: RootOption = None,
    identity: IdentityOption = None,
    issuer: IssuerOption = None,
    rebuilder: RebuilderOption = None,
    ledger_key: LedgerKeyOption = None,
    require: RequireOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: the image is an archive, the trusted root a file.")
    ] = False,
    docker_config: DockerConfigOption = None,
    json: Json = False,
) -> None:
    """Verify all that is signed of an image.

    Every check must hold. A policy can expect more of it, --require an attestation, --ledger-key that the ledger has
    it, --rebuilder that identity's word that the image was rebuilt and is the same.
    """
    from builder.cli.output import print_json
    from builder.cli.problems import tell_error
    from builder.registry.errors import DigestMismatch
    from builder.verification.archive import ArchiveAltered
    from builder.verification.data import verification_data
    from builder.verification.image import verify_image

    archive = _archive(image)
    if offline and archive is None:
        raise typer.BadParameter(
            "a registry or the API would have to be asked: name an archive that `goldsmith bundle` wrote",
            param_hint="--offline",
        )
    if rebuilder is not None and archive is None and digest_alone(image):
        raise typer.BadParameter(
            "what a rebuilder attests is in the registry: name the image there, HOST/REPOSITORY@sha256:…",
            param_hint="--rebuilder",
        )
    read = _policy(policy)
    expected = _expected(read, require or [])
    given = Choice(trusted_root, identity, issuer, rebuilder, ledger_key=ledger_key)
    if read is not None and policy is not None:
        given = with_policy(given, read, policy)
    invocation = invocation_of(context)
    try:
        with _evidence(invocation, image, archive, docker_config) as evidence:
            # Whoever has a policy does not mean the server's own word.
            trust = trusted(invocation, given, ask_server=not offline, believe_server=policy is None)
            # An archive has the ledger's proof: that it lacks one is no accident.
            trust = replace(trust, recorded=trust.recorded or (archive is not None and bool(trust.ledger_keys)))
            verification = verify_image(evidence, trust, expected)
    except (DigestMismatch, ArchiveAltered) as error:
        # Not a failure to look: something else is there than what is meant.
        tell_error(error, machine=json)
        raise typer.Exit(exits.REFUSED) from error
    if json:
        print_json(verification_data(verification))
    else:
        _print_verification(verification)
    if not verification.passed:
        raise typer.Exit(exits.REFUSED)


def _archive(image: str) -> Path | None:
    """What names a digest is never a file: one that lies there under that name would be verified in its place."""
    if "sha256:" in image:
        return None
    return Path(image) if image.endswith(".tar") or Path(image).is_file() else None


@contextmanager
def _evidence(
    invocation: Invocation, image: str, archive: Path | None, docker_config: Path | None
) -> Iterator[Evidence]:
    if archive is not None:
        from builder.verification.archive import read_archive

        yield read_archive(archive)
        return
    with evidence_of(invocation, image, docker_config) as evidence:
        yield evidence


def _policy(file: Path | None) -> VerificationPolicy | None:
    from builder.verification.policy import read_verification_policy

    return read_verification_policy(content_of(file), source=str(file)) if file is not None else None


def _expected(policy: VerificationPolicy | None, names: list[str]) -> Expected:
    from builder.verification.beside import KINDS
    from builder.verification.expected import Expected

    unknown = next((name for name in names if name not in KINDS and name != _ALL), None)
    if unknown is not None:
        raise typer.BadParameter(f"{unknown!r} is none of {', '.join([*KINDS, _ALL])}", param_hint="--require")
    expected = policy.expected() if policy is not None else Expected()
    required = list(KINDS) if _ALL in names else [*expected.required, *names]
    return replace(expected, required=required)


def _print_verification(verification: Verification) -> None:
    from rich.text import Text

    from builder.cli.output import say, styled

    for check in verification.checks:
        mark = Text("ok    ", "green") if check.passed else Text("FAILED", "bold red")
        say(mark, f"  {check.name:<18}  ", check.detail)
    for why in verification.ignored:
        say(styled(f"ignored another bundle: {why}", "dim"))
    say()
    print_trust(verification)
    if verification.passed:
        say(styled(f"verified: {verification.image}", "bold green"))
    else:
        say(styled(f"NOT verified: {verification.image}", "bold red"))


def print_trust(verification: Verification) -> None:
    from builder.cli.output import say, styled

    trust = verification.trust
    if trust.from_server:
        say(
            styled(
                f"Trust comes from {trust.source}: the server that is checked says itself whom to trust. "
                "Give --trusted-root, --identity and --issuer for a check that does not rest on its word.",
                "yellow",
            )
        )
    else:
        say(f"trust from {trust.source}")
    if verification.statement is not None and verification.statement.sandbox:
        say(styled("SANDBOX signature: for trying things out, it proves nothing to others.", "bold yellow"))
