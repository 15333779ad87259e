"""The command that takes inventories: of any subject, or the signed one of an image; and hands out the collector."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from builder.cli.compare import EngineOption
from builder.cli.evidence import DockerConfigOption, evidence_of
from builder.cli.invocation import Invocation, invocation_of
from builder.cli.trusting import Choice, IdentityOption, IssuerOption, RootOption, trusted

if TYPE_CHECKING:
    from builder.image.inventory import Header


class Format(StrEnum):
    INVENTORY = "inventory"
    MTREE = "mtree"


def add_to(app: typer.Typer) -> None:
    app.command()(inventory)


def inventory(
    context: typer.Context,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="SUBJECT",
            help="container:NAME, image:REF, layout:PATH, tar:FILE, dir:PATH or inventory:FILE.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there, not to standard output.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.INVENTORY,
    golden: Annotated[
        str | None,
        typer.Option("--golden", metavar="REF|DIGEST", help="The signed inventory of this image, once it verifies."),
    ] = None,
    collector: Annotated[
        Path | None,
        typer.Option("--collector", metavar="FILE", help="Write the script there that does this on another host."),
    ] = None,
    trusted_root: RootOption = None,
    identity: IdentityOption = None,
    issuer: IssuerOption = None,
    docker_config: DockerConfigOption = None,
    engine: EngineOption = "unix:///var/run/docker.sock",
) -> None:
    """Take the inventory of what can be compared.

    It is compared later, and elsewhere, by `goldsmith compare`. What could not be looked at is told, and is in it.
    """
    from builder.cli.subjects import subject_of
    from builder.cli.writing import refuse_unwritable
    from builder.forensics.subjects.listed import take_inventory

    if sum(one is not None for one in (subject, golden, collector)) != 1:
        raise typer.BadParameter("give one of SUBJECT, --golden and --collector")
    if collector is not None:
        _write_collector(collector)
        return
    if output is not None:
        refuse_unwritable(output)
    elif form is Format.INVENTORY and sys.stdout.isatty():
        raise typer.BadParameter("an inventory is nothing for a terminal: give --output", param_hint="--output")
    with tempfile.TemporaryDirectory(prefix="goldsmith-inventory-") as directory:
        taken = Path(directory) / "inventory"
        if golden is not None:
            choice = Choice(trusted_root, identity, issuer)
            _fetch_golden(invocation_of(context), golden, choice, docker_config, taken)
        elif subject is not None:
            with subject_of(subject, engine_url=engine, fast=False, docker_config=docker_config) as opened:
                take_inventory(opened, taken)
        header = _header(taken)
        with _opened(output) as out:
            _write(taken, form, out)
    _tell(header, output)


def _fetch_golden(
    invocation: Invocation, image: str, choice: Choice, docker_config: Path | None, destination: Path
) -> None:
    """Raises NotCompared, InventoryMissing and InventoryInvalid, and what fetching evidence raises."""
    from builder.cli.comparing import verified_golden
    from builder.image.inventory import open_inventory

    with evidence_of(invocation, image, docker_config) as evidence:
        evidence.inventory(verified_golden(evidence, trusted(invocation, choice)).inventory_digest, destination)
    with open_inventory(destination) as (_, records):
        # Its root is checked once all has been read.
        for _ in records:
            pass


def _header(taken: Path) -> Header:
    from builder.image.inventory import open_inventory

    with open_inventory(taken) as (header, _):
        return header


def _write(taken: Path, form: Format, out: BinaryIO) -> None:
    from builder.image.inventory import open_inventory
    from builder.image.mtree import mtree_lines

    if form is Format.MTREE:
        with open_inventory(taken) as (_, records):
            out.writelines(mtree_lines(record.entry for record in records))
        return
    with taken.open("rb") as file:
        shutil.copyfileobj(file, out)


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    from builder.cli.writing import NotWritten

    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with output.open("wb") as out:
            yield out
    except OSError as error:
        raise NotWritten(f"cannot write {output}: {error.strerror}", hint="name another file with --output") from error


def _tell(header: Header, output: Path | None) -> None:
    from builder.cli.output import complain, say
    from builder.counted import counted

    for what in header.subject.unproven if header.subject else ():
        complain(f"not looked at: {what}", "yellow")
    if output is not None:
        say(f"{counted(header.entries, 'path')}, root {header.root}: {output}")


def _write_collector(destination: Path) -> None:
    from builder.cli.output import say
    from builder.cli.writing import refuse_unwritable, write
    from builder.forensics import collector

    refuse_unwritable(destination)
    write(destination, Path(collector.__file__).read_bytes())
    say(f"run it where the subject is, as root: python3 {destination.name} /proc/PID/root > subject.jsonl")
