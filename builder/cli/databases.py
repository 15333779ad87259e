"""The commands around the scanner's vulnerability database, on a host that scans or one that brings databases there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import exits
from builder.cli.evidence import DockerConfigOption
from builder.cli.invocation import Json

if TYPE_CHECKING:
    from builder.pipeline.services import Services
    from builder.scanning.database import Database
    from builder.scanning.findings import DatabaseIdentity

_FETCH_SECONDS = 1800.0

app = typer.Typer(
    help="The scanner's vulnerability database on this host. Uses GOLDSMITH_* settings.", no_args_is_help=True
)
AllowStale = Annotated[
    bool, typer.Option("--allow-stale", help="Take one that is older than GOLDSMITH_TRIVY_DATABASE_HOURS.")
]


@app.command()
def status(json: Json = False) -> None:
    """Say which database is in place, how old it is, and which scanner would use it.

    Exit code 2 when a scan would be refused for it.
    """
    from builder.cli.output import complain, print_fields, print_json, styled
    from builder.errors import GoldsmithError
    from builder.scanning.database import installed

    services = _services()
    problem: GoldsmithError | None = None
    found: DatabaseIdentity | None = None
    try:
        found = installed(services.trivy_cache, services.database_age, allow_stale=True).identity
        installed(services.trivy_cache, services.database_age)
    except GoldsmithError as error:
        problem = error
    try:
        scanner = services.trivy.identity()
    except GoldsmithError as error:
        scanner, problem = None, problem or error
    if json:
        print_json(
            {
                "usable": problem is None,
                "problem": problem.problem().model_dump(mode="json", exclude_none=True) if problem else None,
                "source": str(services.database_source),
                "maximumAgeHours": services.settings.trivy_database_hours,
                "database": _told(found) if found else None,
                "scanner": scanner.model_dump(mode="json") if scanner else None,
            }
        )
    else:
        print_fields(
            [
                ("usable", styled("no", "red") if problem else styled("yes", "green")),
                ("configured", str(services.database_source)),
                *(_fields(found) if found else []),
                ("age limit", f"{services.settings.trivy_database_hours} hours"),
                ("scanner", f"{scanner.name} {scanner.version}, sha256 {scanner.sha256}" if scanner else None),
            ]
        )
        if problem:
            complain(str(problem), "red")
    if problem:
        raise typer.Exit(exits.REFUSED)


@app.command()
def update(json: Json = False) -> None:
    """Fetch the database from where GOLDSMITH_TRIVY_DATABASE says, now, due or not.

    Workers do it themselves when it is due, one at a time on a host. A failure leaves the old one in place.
    """
    from builder.scanning.database import update as fetch

    services = _services()
    identity = fetch(
        services.trivy,
        services.database_source,
        services.trivy_cache,
        maximum_age=services.database_age,
        timeout=_FETCH_SECONDS,
    )
    _tell(identity, machine=json)


@app.command("import")
def import_(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|DIRECTORY", help="A db.tar.gz, or trivy.db with metadata.json.")
    ],
    allow_stale: AllowStale = False,
    json: Json = False,
) -> None:
    """Put a database that was brought here in place on this host.

    Workers use it with GOLDSMITH_TRIVY_DATABASE=imported, and never fetch another.
    """
    from builder.cli.output import complain
    from builder.scanning.database import take_in
    from builder.scanning.sources import IMPORTED, file_source

    services = _services()
    identity = take_in(
        file_source(path), services.trivy_cache, maximum_age=services.database_age, allow_stale=allow_stale
    )
    _tell(identity, machine=json)
    if str(services.database_source) != IMPORTED:
        complain(
            f"Workers will take {services.database_source} instead: set GOLDSMITH_TRIVY_DATABASE={IMPORTED}", "yellow"
        )


@app.command()
def mirror(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE|DIRECTORY", help="A database that was brought here; else the one in place."
        ),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="HOST/REPOSITORY[:TAG]", help="Push it to a registry, for workers and Trivy.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a .tar.gz, to carry it.")] = None,
    allow_stale: AllowStale = False,
    docker_config: DockerConfigOption = None,
    json: Json = False,
) -> None:
    """Copy a database to a registry, or into a file to carry to one.

    It is looked at first: one that is damaged or too old goes nowhere.
    """
    from builder.cli.output import print_json, say
    from builder.scanning.archive import pack

    if (push is None) == (output is None):
        raise typer.BadParameter("give one of the two", param_hint="--push / --output")
    services = _services()
    with _opened(services, source, allow_stale=allow_stale) as (database, scratch):
        identity = database.identity
        archive = output or scratch / "db.tar.gz"
        digest = pack(database.directory / "db", archive, identity.updated_at)
        place = _pushed(push, archive, digest, docker_config) if push is not None else str(archive.absolute())
    if json:
        print_json({"place": place, "archiveDigest": digest, "database": _told(identity)})
    else:
        say(f"{place} has the database of {identity.updated_at:%Y-%m-%d %H:%M} UTC, {identity.digest}")


@contextmanager
def _opened(services: Services, source: Path | None, *, allow_stale: bool) -> Iterator[tuple[Database, Path]]:
    """The database to copy, and a directory for what is only needed meanwhile, where databases have room."""
    from builder.scanning.database import installed, look_at
    from builder.scanning.sources import file_source

    with tempfile.TemporaryDirectory(prefix="mirror-", dir=services.trivy_cache) as directory:
        scratch = Path(directory)
        if source is None:
            yield installed(services.trivy_cache, services.database_age, allow_stale=allow_stale), scratch
        else:
            age = services.database_age
            yield look_at(file_source(source), scratch, maximum_age=age, allow_stale=allow_stale), scratch


def _pushed(name: str, archive: Path, digest: str, docker_config: Path | None) -> str:
    from builder.cli.evidence import registry_access
    from builder.image.digests import digest_of
    from builder.image.documents import Descriptor
    from builder.registry.client import RegistryClient
    from builder.registry.errors import DigestMismatch
    from builder.registry.reference import parse_reference
    from builder.scanning.artifact import CONFIG, TAG, database_manifest

    named = parse_reference(name)
    if named.digest is not None:
        raise typer.BadParameter("a tag is needed, not a digest", param_hint="--push")
    target = named.repository.tagged(named.tag or TAG)
    layer = Descriptor(media_type="application/octet-stream", digest=digest, size=archive.stat().st_size)
    manifest = database_manifest(digest, layer.size)
    with (
        tempfile.TemporaryDirectory() as locks,
        RegistryClient(registry_access(docker_config), lock_directory=Path(locks)) as registry,
    ):
        registry.blobs.push_bytes(target.repository, CONFIG, "application/octet-stream")
        registry.blobs.push(target.repository, archive, layer)
        registry.manifests.put(target, manifest)
        if registry.manifests.get(target).digest != digest_of(manifest):
            raise DigestMismatch(f"{target} is not what was pushed: somebody else pushes to it too")
    return str(target)


def _services() -> Services:
    from builder.pipeline.services import Services
    from builder.settings import load_settings

    return Services(load_settings())


def _tell(identity: DatabaseIdentity, *, machine: bool) -> None:
    from builder.cli.output import print_fields, print_json

    if machine:
        print_json(_told(identity))
    else:
        print_fields(_fields(identity))


def _told(identity: DatabaseIdentity) -> dict[str, Any]:
    return {
        "digest": identity.digest,
        "updatedAt": identity.updated_at.isoformat(),
        "nextUpdate": identity.next_update.isoformat(),
        "downloadedAt": identity.downloaded_at.isoformat(),
        "source": identity.source,
        "sample": identity.sample,
        "stale": identity.stale,
    }


def _fields(identity: DatabaseIdentity) -> list[tuple[str, str | None]]:
    from datetime import UTC, datetime

    hours = (datetime.now(UTC) - identity.updated_at).total_seconds() / 3600
    return [
        ("database", identity.digest),
        ("made", f"{identity.updated_at:%Y-%m-%d %H:%M} UTC, {hours:.0f} hours ago{', STALE' * identity.stale}"),
        ("next one due", f"{identity.next_update:%Y-%m-%d %H:%M} UTC"),
        ("came from", f"{identity.source}, at {identity.downloaded_at:%Y-%m-%d %H:%M} UTC"),
        ("complete", "NO: it is the sample" if identity.sample else None),
    ]
