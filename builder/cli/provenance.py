"""The commands about evidence: fetch the provenance, verify an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import exits
from builder.cli.evidence import DockerConfigOption, ImageArgument, digest_alone, evidence_of
from builder.cli.invocation import Json, invocation_of
from builder.cli.trusting import Choice, IdentityOption, IssuerOption, RebuilderOption, RootOption, trusted

if TYPE_CHECKING:
    from builder.cli.verifying import Verification

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
    for command in (provenance, bundle, verify):
        app.command()(command)


def provenance(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="The image's digest.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there, byte for byte.")
    ] = None,
    statement: Annotated[
        bool, typer.Option("--statement", help="The in-toto statement in it, decoded. Not verified.")
    ] = False,
    json: Json = False,  # noqa: ARG001 - it is JSON in any case
) -> None:
    """Fetch the signed provenance of an image.

    The API gives it as a Sigstore bundle. Nothing is checked here: `goldsmith verify` does that.
    """
    from builder.cli.bundles import decoded_statement, read_bundle
    from builder.cli.output import as_json, complain
    from builder.cli.writing import write
    from builder.image.digests import parse_digest

    with invocation_of(context).client() as client:
        content = client.provenance(parse_digest(digest))
    parsed = read_bundle(content)
    if statement:
        complain("goldsmith: this statement has not been verified; `goldsmith verify` does that")
        parsed = decoded_statement(parsed)
        content = (as_json(parsed) + "\n").encode()
    if output is None:
        typer.echo(as_json(parsed))
        return
    write(output, content)


def bundle(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="The image's digest.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Write there; it must not exist.", show_default=False)
    ],
) -> None:
    """Fetch all evidence of an image as one tar archive.

    With it, stock tools and the README in it, anybody can verify the image without the service.
    """
    from builder.cli.output import say
    from builder.cli.writing import writing_anew
    from builder.image.digests import parse_digest

    parsed = parse_digest(digest)
    with writing_anew(output) as file, invocation_of(context).client() as client:
        client.bundle(parsed, file)
    say(f"written to {output}; README.md in it tells how to verify it")


def verify(
    context: typer.Context,
    image: ImageArgument,
    trusted_root: RootOption = None,
    identity: IdentityOption = None,
    issuer: IssuerOption = None,
    rebuilder: RebuilderOption = None,
    require: RequireOption = None,
    docker_config: DockerConfigOption = None,
    json: Json = False,
) -> None:
    """Verify all that is signed of an image.

    Every check must hold. With --require an attestation must be there; with --rebuilder the registry must also hold
    that identity's attestation that the image was rebuilt and is the same.
    """
    from builder.cli.output import print_json
    from builder.cli.problems import tell_error
    from builder.cli.verifying import verification_data, verify_image
    from builder.registry.errors import DigestMismatch

    if rebuilder is not None and digest_alone(image):
        raise typer.BadParameter(
            "what a rebuilder attests is in the registry: name the image there, HOST/REPOSITORY@sha256:…",
            param_hint="--rebuilder",
        )
    required = _required(require or [])
    invocation = invocation_of(context)
    try:
        with evidence_of(invocation, image, docker_config) as evidence:
            trust = trusted(invocation, Choice(trusted_root, identity, issuer, rebuilder))
            verification = verify_image(evidence, trust, required)
    except DigestMismatch as error:
        # Not a failure to look: the registry holds something else under this digest.
        tell_error(error, machine=json)
        raise typer.Exit(exits.REFUSED) from error
    if json:
        print_json(verification_data(verification))
    else:
        _print_verification(verification)
    if not verification.passed:
        raise typer.Exit(exits.REFUSED)


def _required(names: list[str]) -> list[str]:
    from builder.cli.gated import KINDS

    unknown = next((name for name in names if name not in KINDS and name != _ALL), None)
    if unknown is not None:
        raise typer.BadParameter(f"{unknown!r} is none of {', '.join([*KINDS, _ALL])}", param_hint="--require")
    return list(KINDS) if _ALL in names else names


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
