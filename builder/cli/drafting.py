"""The command that writes a first recipe: it asks for what it was not told."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli.invocation import Json
from builder.errors import Rejected

if TYPE_CHECKING:
    from builder.recipes.draft import Draft

_NOBODY = ("root", "none", "-")


class FileExists(Rejected):
    slug = "file-exists"
    title = "The file is there already"


def add_to(app: typer.Typer) -> None:
    app.command("new")(new)


def new(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="What it is called.", show_default=False)] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="BASE", help="debian:SUITE, recipe:NAME or IMAGE@sha256:… [default: debian:trixie]"),
    ] = None,
    package: Annotated[list[str] | None, typer.Option(help="A Debian package; can be repeated.")] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME|root", help="The account that it runs as. [default: app]")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The TCP port that it listens on.")] = None,
    command: Annotated[
        str | None, typer.Option("--command", metavar="LINE", help="What a container starts, such as 'nginx -g …'.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="What it is for, in a line.")] = None,
    repository: Annotated[str | None, typer.Option(help="Where it is released. [default: golden/NAME]")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="[default: NAME.yaml]", show_default=False)
    ] = None,
    asking: Annotated[
        bool | None, typer.Option("--ask/--no-ask", help="Ask for what is not given. [default: on a terminal]")
    ] = None,
    json: Json = False,
) -> None:
    """Write a first recipe, commented and ready to build.

    It asks a few questions, or takes the answers from options. A file that is there is left alone.
    """
    from builder.cli.output import print_json, say
    from builder.recipes.draft import Draft

    ask = sys.stdin.isatty() if asking is None else asking
    if name is None and not ask:
        raise typer.BadParameter("say what it is called", param_hint="NAME")
    if name is not None:
        # Before anybody answers questions for nothing.
        _refuse_existing(output or Path(f"{name}.yaml"))
    given = Draft(
        name=name or "",
        description=description or "",
        base=base or Draft.base,
        packages=tuple(package or ()),
        user=None if user in _NOBODY else user or Draft.user,
        port=port,
        command=_words(command or ""),
        repository=repository,
    )
    if ask:
        told = {"name": name, "base": base, "packages": package, "user": user, "port": port, "command": command}
        given = _asked(given, {one for one, value in told.items() if value is None}, output)
    path = output or Path(f"{given.name}.yaml")
    _refuse_existing(path)
    text = given.text()
    _write(path, text)
    if json:
        print_json({"file": str(path), **asdict(given)})
    else:
        say(f"{path} is written. `goldsmith build {path}` builds it")


def _asked(draft: Draft, wanted: set[str], output: Path | None) -> Draft:
    """Each answer is tried at once, and asked for again until it will do."""
    from dataclasses import replace

    questions: list[tuple[str, str, str, Callable[[str], object]]] = [
        ("name", "Name", "", str),
        ("base", "Base (debian:SUITE, recipe:NAME or IMAGE@sha256:…)", draft.base, str),
        ("packages", "Debian packages, with blanks between them", "", _names),
        ("command", "What a container starts, such as /usr/sbin/nginx -g 'daemon off;'", "", _words),
        ("port", "TCP port that it listens on", "", _port),
        ("user", "Account that it runs as, or root", "app", lambda answer: None if answer in _NOBODY else answer),
    ]
    for field, question, default, meant in questions:
        while field in wanted:
            answer = typer.prompt(question, default=default, show_default=bool(default), err=True).strip()
            try:
                changed: dict[str, Any] = {field: meant(answer)}
                tried = replace(draft, **changed)
                tried.text()
                _refuse_existing(output or Path(f"{tried.name}.yaml"))
            except (Rejected, ValueError, typer.BadParameter) as error:
                _tell(error)
                continue
            draft = tried
            break
    return draft


def _tell(error: Exception) -> None:
    from builder.cli.output import complain

    faults = error.errors if isinstance(error, Rejected) else []
    for fault in faults:
        complain(f"  {fault}")
    if not faults:
        complain(f"  {error}")


def _port(answer: str) -> int | None:
    """Raises ValueError."""
    if answer and not answer.isdecimal():
        raise ValueError("a port is a number, such as 8080")
    return int(answer) if answer else None


def _names(line: str) -> tuple[str, ...]:
    return tuple(line.replace(",", " ").split())


def _words(line: str) -> tuple[str, ...]:
    """Raises BadParameter."""
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise typer.BadParameter(f"{line!r}: {str(error).lower()}", param_hint="--command") from None


def _refuse_existing(path: Path) -> None:
    """Raises FileExists."""
    if path.exists():
        raise FileExists(f"{path} is there already", hint="give another name, or another file with --output")


def _write(path: Path, text: str) -> None:
    """Raises FileExists or NotWritten."""
    from builder.cli.writing import writing_anew

    with writing_anew(path) as file:
        file.write(text.encode())
