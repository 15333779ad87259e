"""The command that asks whether an image can be built again, bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import exits
from builder.cli.builds import Wait, as_data, print_asked
from builder.cli.evidence import DockerConfigOption, ImageArgument, registry_access
from builder.cli.invocation import Json, invocation_of

if TYPE_CHECKING:
    from builder.client.models import Build

_SHOWN = 50


def add_to(app: typer.Typer) -> None:
    app.command()(rebuild)


def rebuild(
    context: typer.Context,
    image: ImageArgument,
    offline: Annotated[
        bool, typer.Option("--offline", help="From the materials in the registry alone; no archive is asked.")
    ] = False,
    docker_config: DockerConfigOption = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Rebuild a released image from its signed record and compare, bit for bit.

    An image that is equal gets a signed attestation that says so. One that is not: every differing file is named.
    """
    from builder.cli.following import follow_shown
    from builder.cli.output import print_json

    digest = _digest(image, docker_config)
    with invocation_of(context).client() as client:
        submitted = client.submit_rebuild(digest, offline=offline)
        if not wait:
            print_asked(submitted, json=json)
            return
        ended = follow_shown(client, submitted, machine=json)
    if json:
        print_json(as_data(ended))
    else:
        _print_outcome(ended)
    if not ended.succeeded:
        raise typer.Exit(exits.REFUSED)


def _digest(image: str, docker_config: Path | None) -> str:
    """Of a tag what the registry has under it now."""
    from builder.image.digests import parse_digest
    from builder.registry.client import RegistryClient
    from builder.registry.reference import parse_reference

    if image.startswith("sha256:"):
        return parse_digest(image)
    reference = parse_reference(image)
    if reference.digest is not None:
        return reference.digest
    with (
        tempfile.TemporaryDirectory() as locks,
        RegistryClient(registry_access(docker_config), lock_directory=Path(locks)) as registry,
    ):
        return registry.manifests.get(reference).digest


def _print_outcome(build: Build) -> None:
    from builder.cli.output import complain, print_fields, say, styled
    from builder.cli.summary import print_outcome

    found = build.rebuild
    if not build.succeeded or found is None or found.attestation is None:
        print_outcome(build)
        if found is not None:
            for one in found.differences[:_SHOWN]:
                package = f"  [{one.package}]" if one.package else ""
                complain(f"  {','.join(one.kinds):<13} {one.path}{package}")
            if found.differences_total > _SHOWN:
                complain(
                    f"  … and {found.differences_total - _SHOWN} more; --json lists up to {len(found.differences)}"
                )
        return
    attestation = found.attestation
    mark = "SANDBOX, no real Sigstore: " if attestation.sandbox else ""
    say()
    print_fields(
        [
            ("reproduced", styled(found.outcome, "bold green")),
            (
                "materials",
                ", ".join(f"{count} packages from {source}" for source, count in found.materials_from.items()),
            ),
            (
                "attested by",
                f"{mark}{attestation.identity} (issuer {attestation.issuer}), log index {attestation.log_index}",
            ),
            ("referrer", attestation.referrer),
        ]
    )
