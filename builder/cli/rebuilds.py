"""The command that asks whether an image can be built again, bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import exits
from builder.cli.builds import Wait, as_data, print_asked
from builder.cli.evidence import DockerConfigOption, ImageArgument, digest_alone, registry_access
from builder.cli.invocation import Json, invocation_of

if TYPE_CHECKING:
    from builder.registry.reference import Repository


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

    digest, repository = _named(image, docker_config)
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


def _named(image: str, docker_config: Path | None) -> tuple[str, Repository | None]:
    """An image's digest and, unless the digest alone was given, its repository. Of a tag what the registry has now."""
    from builder.registry.client import RegistryClient
    from builder.registry.reference import parse_reference

    digest = digest_alone(image)
    if digest is not None:
        return digest, None
    reference = parse_reference(image)
    if reference.digest is not None:
        return reference.digest, reference.repository
    with (
        tempfile.TemporaryDirectory() as locks,
        RegistryClient(registry_access(docker_config), lock_directory=Path(locks)) as registry,
    ):
        return registry.manifests.get(reference).digest, reference.repository
