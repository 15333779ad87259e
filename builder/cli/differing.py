"""The command that says what changed between two golden releases."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import exits
from builder.cli.evidence import DockerConfigOption, evidence_of
from builder.cli.invocation import Invocation, Json, invocation_of
from builder.cli.trusting import Choice, IdentityOption, IssuerOption, RootOption, trusted

if TYPE_CHECKING:
    from builder.forensics.diff import Diff
    from builder.forensics.releases import Release
    from builder.verification.trust import Trusted

_GOLDEN = "HOST/REPOSITORY@sha256:… or :TAG, or a digest, asked of the API."


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def add_to(app: typer.Typer) -> None:
    app.command()(diff)


def diff(
    context: typer.Context,
    before: Annotated[str, typer.Argument(metavar="GOLDEN1", help=_GOLDEN, show_default=False)],
    after: Annotated[str, typer.Argument(metavar="GOLDEN2", help="The other release.", show_default=False)],
    trusted_root: RootOption = None,
    identity: IdentityOption = None,
    issuer: IssuerOption = None,
    form: Annotated[Format | None, typer.Option("--format", help="What to write. [default: text]")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there; the terminal gets text.")
    ] = None,
    docker_config: DockerConfigOption = None,
    json: Json = False,
) -> None:
    """Say what changed between two golden releases.

    By package, path, configuration, recipe and finding. The signed provenance of both is verified first. It names their
    inventories, scan reports and recipes.
    """
    from builder.cli.writing import refuse_unwritable
    from builder.forensics.releases import diff_releases

    if output is not None:
        refuse_unwritable(output)
    invocation = invocation_of(context)
    trust = trusted(invocation, Choice(trusted_root, identity, issuer))
    with tempfile.TemporaryDirectory(prefix="goldsmith-diff-") as directory:
        old, new = (
            _release(invocation, image, docker_config, trust, Path(directory) / name)
            for image, name in ((before, "before"), (after, "after"))
        )
        told = diff_releases(old, new)
    _tell(told, Format.JSON if json else form or Format.TEXT, output)
    raise typer.Exit(exits.DONE if not told.differs else exits.REFUSED)


def _release(
    invocation: Invocation, image: str, docker_config: Path | None, trust: Trusted, inventory: Path
) -> Release:
    """A release that verifies, its inventory in a new file. Raises NotCompared, and what fetching evidence raises."""
    import json

    from builder.cli.comparing import verified_provenance
    from builder.cli.scans import kept_scan
    from builder.forensics.golden import signed_inventory, signed_recipe
    from builder.forensics.releases import Release
    from builder.image.documents import parse_config

    with evidence_of(invocation, image, docker_config) as evidence:
        provenance, by = verified_provenance(evidence, trust)
        inventory_digest = signed_inventory(provenance, evidence.digest)
        evidence.inventory(inventory_digest, inventory)
        config = evidence.config()
        if config is not None:
            parse_config(config)  # is one
        return Release(
            image=evidence.image,
            digest=evidence.digest,
            inventory=inventory,
            inventory_digest=inventory_digest,
            verified=by,
            recipe=signed_recipe(provenance),
            configuration=json.loads(config) if config is not None else None,
            scan=kept_scan(invocation, evidence, provenance),
        )


def _tell(told: Diff, form: Format, output: Path | None) -> None:
    from builder.cli.differences import diff_text, print_diff
    from builder.cli.writing import write

    if form is Format.TEXT:
        if output is not None:
            write(output, diff_text(told).encode("utf-8"))
        print_diff(told)
        return
    if form is Format.MARKDOWN:
        from builder.forensics.diff_markdown import markdown_text

        text = markdown_text(told)
    else:
        text = told.json_text()
    if output is None:
        typer.echo(text, nl=False)
        return
    write(output, text.encode("utf-8"))
    print_diff(told)
