"""The commands of an operator, on the machine that has the database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.evidence import DockerConfigOption
from builder.cli.invocation import Json, invocation_of
from builder.cli.keys import ExpiresOption, NameArgument, SaveOption, make_key
from builder.store.scopes import Scope

app = typer.Typer(
    help="For operators: database, a first API key, sample data. Uses GOLDSMITH_* settings.", no_args_is_help=True
)


@app.command()
def migrate(json: Json = False) -> None:
    """Bring the database's schema up to date."""
    from builder.cli.output import print_json, say
    from builder.settings import load_settings
    from builder.store.database import Database

    database = Database(load_settings().database_url)
    database.migrate()
    database.close()
    if json:
        print_json({"migrated": True})
    else:
        say("the database is up to date")


@app.command()
def grants(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="The PostgreSQL role that serves the API.")],
    json: Json = False,
) -> None:
    """Print SQL that lets a PostgreSQL role serve the API and change nothing of the ledger.

    The owner of the tables runs it, after each `admin migrate`: docs/security/database.md.
    """
    import sys

    from builder.cli.output import print_json
    from builder.store.grants import api_grants

    if json:
        print_json({"role": role, "sql": api_grants(role)})
    else:
        sys.stdout.write(api_grants(role))


@app.command("create-key")
def create_key(
    context: typer.Context,
    name: NameArgument,
    expires: ExpiresOption = None,
    save: SaveOption = False,
    json: Json = False,
) -> None:
    """Make an API key that may do everything, and print it, this once.

    Only a hash of it is kept. `goldsmith key create` makes keys that may do less.
    """
    make_key(invocation_of(context), name, [Scope.ADMIN], expires, save=save, json=json)


@app.command("sample-database")
def sample_database(
    push: Annotated[
        str | None, typer.Option(metavar="REPOSITORY", help="Push it as HOST/REPOSITORY:2, for Trivy.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIRECTORY", help="Write it into a directory.")] = None,
    docker_config: DockerConfigOption = None,
    json: Json = False,
) -> None:
    """Build the sample vulnerability database.

    It holds a few real advisories, so that a first scan needs no network. It is not complete.
    """
    from datetime import UTC, datetime, timedelta

    from builder.cli.output import complain, print_json, say
    from builder.scanning.sample.build import build_sample

    if (push is None) == (output is None):
        raise typer.BadParameter("give one of the two", param_hint="--push / --output")
    now = datetime.now(UTC).replace(microsecond=0)
    sample = build_sample(now, now + timedelta(days=1))
    if output is not None:
        sample.write(output)
        place = str(output.absolute())
    else:
        place = _push(push or "", sample.archive, docker_config)
    if json:
        print_json({"sample": True, "complete": False, "database": place, "updatedAt": now.isoformat()})
        return
    complain("This is a SAMPLE: a few real advisories, not complete. It cannot tell that an image is safe.", "yellow")
    say(f"GOLDSMITH_TRIVY_DATABASE={place}")


def _push(name: str, archive: bytes, docker_config: Path | None) -> str:
    import tempfile

    from builder.cli.evidence import registry_access
    from builder.image.documents import Descriptor
    from builder.registry.client import RegistryClient
    from builder.registry.reference import parse_repository
    from builder.scanning.artifact import database_artifact

    repository = parse_repository(name)
    artifact = database_artifact(archive)
    with (
        tempfile.TemporaryDirectory() as locks,
        RegistryClient(registry_access(docker_config), lock_directory=Path(locks)) as registry,
    ):
        for digest, blob in artifact.blobs.items():
            registry.blobs.push(
                repository, blob, Descriptor(media_type="application/octet-stream", digest=digest, size=len(blob))
            )
        registry.manifests.put(repository.tagged(artifact.tag), artifact.manifest)
    return f"{repository}:{artifact.tag}"
