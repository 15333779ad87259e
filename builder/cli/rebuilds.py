"""The command that asks whether an image can be built again, bit for bit."""

from __future__ import annotations

from typing import Annotated

import typer

from builder.cli import exits
from builder.cli.builds import Wait, as_data, print_asked
from builder.cli.evidence import DockerConfigOption, ImageArgument, named_image
from builder.cli.invocation import Json, invocation_of


def add_to(app: typer.Typer) -> None:
    app.command()(rebuild)


def rebuild(
    context: typer.Context,
    image: ImageArgument,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no archive: every package is in the registry, or cached by digest.")
    ] = False,
    docker_config: DockerConfigOption = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Rebuild a released image and compare.

    It is made again from its signed record, and compared bit for bit. An image that is equal gets a signed attestation
    that says so; of one that is not every differing file is named.
    """
    from builder.cli.following import follow_shown
    from builder.cli.output import print_json
    from builder.cli.summary import print_rebuilt

    digest, repository = named_image(image, docker_config)
    with invocation_of(context).client() as client:
        submitted = client.submit_rebuild(digest, repository, offline=offline)
        if not wait:
            print_asked(submitted, json=json)
            return
        ended = follow_shown(client, submitted, machine=json)
    if json:
        print_json(as_data(ended))
    else:
        print_rebuilt(ended, image)
    if not ended.succeeded:
        raise typer.Exit(exits.REFUSED)
