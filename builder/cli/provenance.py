"""The commands that fetch evidence: the provenance, or all of it as one archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.evidence import DockerConfigOption, ImageArgument, named_image
from builder.cli.invocation import Json, invocation_of


def add_to(app: typer.Typer) -> None:
    for command in (provenance, bundle):
        app.command()(command)


def provenance(
    context: typer.Context,
    image: ImageArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there, byte for byte.")
    ] = None,
    statement: Annotated[
        bool, typer.Option("--statement", help="The in-toto statement in it, decoded. Not verified.")
    ] = False,
    docker_config: DockerConfigOption = None,
    json: Json = False,  # noqa: ARG001 - it is JSON in any case
) -> None:
    """Fetch the signed provenance of an image.

    The API gives it as a Sigstore bundle. Nothing is checked here: `goldsmith verify` does that.
    """
    from builder.cli.output import as_json, complain
    from builder.cli.writing import write
    from builder.verification.quoted import decoded_statement, read_bundle

    with invocation_of(context).client() as client:
        content = client.provenance(named_image(image, docker_config)[0])
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
    image: ImageArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Write there; it must not exist.", show_default=False)
    ],
    docker_config: DockerConfigOption = None,
) -> None:
    """Fetch all evidence of an image as one tar archive.

    With it, stock tools and the README in it, anybody can verify the image without the service.
    """
    from builder.cli.output import say
    from builder.cli.writing import writing_anew

    digest, _ = named_image(image, docker_config)
    with writing_anew(output) as file, invocation_of(context).client() as client:
        client.bundle(digest, file)
    say(f"written to {output}; README.md in it tells how to verify it")
