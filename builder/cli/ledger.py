"""The commands around the ledger: hold it to what it signed, keep what proves that, and make the key that signs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import exits
from builder.cli.invocation import Invocation, Json, invocation_of
from builder.cli.ledger_keys import LedgerKeyOption, content_of, read_keys

if TYPE_CHECKING:
    from builder.ledger.checking import Checked
    from builder.ledger.checkpoint import OpenedCheckpoint
    from builder.ledger.damage import LedgerNotIntact
    from builder.ledger.following import Read
    from builder.ledger.history import Kept
    from builder.ledger.note import VerifierKey

app = typer.Typer(help="The ledger: what was released and compared, in a Merkle tree.", no_args_is_help=True)
key_app = typer.Typer(help="The key that signs the ledger's checkpoints.", no_args_is_help=True)
app.add_typer(key_app, name="key")

OldCheckpoints = Annotated[
    list[Path] | None, typer.Option("--checkpoint", metavar="FILE", help="A checkpoint that was kept. Repeatable.")
]


@app.command()
def verify(
    context: typer.Context,
    checkpoint: OldCheckpoints = None,
    ledger_key: LedgerKeyOption = None,
    database: Annotated[
        bool, typer.Option("--database", help="On the database's host: every row, too. Uses GOLDSMITH_* settings.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Read the tiles that `--save` wrote; ask no service.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Keep checkpoint and tiles, as files for any web server.")
    ] = None,
    json: Json = False,
) -> None:
    """Check the whole ledger: every entry, every tile, and everything that was ever signed or kept.

    Exit code 2 when it is not what it was; the reason names the first entry that is wrong.
    """
    from builder.cli.output import print_json
    from builder.ledger.damage import LedgerNotIntact

    if database + (directory is not None) + (save is not None) > 1:
        raise typer.BadParameter("give one of the three", param_hint="--database / --directory / --save")
    invocation = invocation_of(context)
    try:
        with _reading(invocation, directory, save) as read:
            if database:
                checked, pinned = _check_database(invocation, ledger_key, checkpoint or [])
            else:
                checked, pinned = _check_tiles(invocation, read, ledger_key, checkpoint or [])
    except LedgerNotIntact as error:
        _refuse(error, machine=json)
    if json:
        print_json({"intact": True, **_told(checked), "keyPinned": pinned})
    else:
        _say(checked)


@app.command("checkpoint")
def checkpoint_(
    context: typer.Context,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep it. One that is there already must be continued by it.")
    ] = None,
    ledger_key: LedgerKeyOption = None,
    json: Json = False,
) -> None:
    """Show the newest signed checkpoint, and keep it: whoever has an old one finds any change to what came before.

    Exit code 2 when it is not signed as it should be, or does not continue the one in FILE.
    """
    from builder.cli.output import print_fields, print_json
    from builder.cli.writing import write
    from builder.ledger.damage import LedgerNotIntact
    from builder.ledger.following import read_checkpoint

    invocation = invocation_of(context)
    try:
        with _reading(invocation, None, None) as read:
            keys, pinned = _keys(invocation, ledger_key, lambda: read("key"))
            opened = read_checkpoint(read, keys)
            if save is not None and save.exists():
                _require_continued(_kept(save, keys), opened, read)
    except LedgerNotIntact as error:
        _refuse(error, machine=json)
    if save is not None:
        write(save, opened.note.encode())
    found = opened.checkpoint
    if json:
        told = {"origin": found.origin, "size": found.size, "rootHash": found.root.hex(), "keyPinned": pinned}
        print_json({**told, "note": opened.note.encode().decode(), "savedIn": str(save) if save else None})
        return
    print_fields(
        [
            ("ledger", found.origin),
            ("entries", str(found.size)),
            ("root", found.root.hex()),
            ("signed by", ", ".join(f"{one.name}+{one.key_id.hex()}" for one in opened.note.signatures)),
            ("kept in", str(save) if save else None),
        ]
    )


@app.command()
def proof(
    context: typer.Context,
    entry: Annotated[
        str, typer.Argument(metavar="INDEX|DIGEST", help="An entry's place, a record's digest, or an image's.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the proof, and FILE.entry beside it.")
    ] = None,
    ledger_key: LedgerKeyOption = None,
) -> None:
    """Fetch the proof that an entry is in the ledger (C2SP tlog-proof), check it, and print or keep it."""
    from builder.cli.output import complain
    from builder.cli.writing import write
    from builder.ledger.note import NoteInvalid, NoteNotSigned
    from builder.ledger.proof import parse_proof
    from builder.merkle.proofs import ProofInvalid

    named = f"index={int(entry)}" if entry.isascii() and entry.isdigit() else f"record={entry}"
    invocation = invocation_of(context)
    with _reading(invocation, None, None) as read:
        keys, _ = _keys(invocation, ledger_key, lambda: read("key"))
        content = read(f"proofs/inclusion?format=tlog-proof&{named}")
        found = parse_proof(content)
        logged = read(f"entries/{found.index}")
    try:
        opened = found.verify(logged, keys)
    except (ProofInvalid, NoteInvalid, NoteNotSigned) as error:
        complain(f"goldsmith: {error.detail}", "red")
        raise typer.Exit(exits.REFUSED) from error
    if output is None:
        typer.echo(content.decode(), nl=False)
    else:
        write(output, content)
        write(output.with_name(output.name + ".entry"), logged)
    complain(f"entry {found.index} of {opened.checkpoint.size}: {logged.decode()}")


@key_app.command("generate")
def generate(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; only its owner will be able to read it.")],
    json: Json = False,
) -> None:
    """Make the key that the release worker signs with, and print its verifier key.

    Keep FILE: there is no other copy.
    """
    from builder.ledger.signing import generate_key

    generate_key(path)
    _show(path, machine=json)


@key_app.command("show")
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The key that GOLDSMITH_LEDGER_KEY_FILE names.")],
    json: Json = False,
) -> None:
    """Print the verifier key, for those who verify. Uses GOLDSMITH_LEDGER_ORIGIN and GOLDSMITH_BUILDER_ID."""
    _show(path, machine=json)


def _show(path: Path, *, machine: bool) -> None:
    from builder.cli.output import print_json
    from builder.ledger.signing import LedgerKey
    from builder.pipeline.services import Services
    from builder.settings import load_settings

    key = LedgerKey.load(path, Services(load_settings()).ledger_origin)
    if machine:
        print_json({"origin": key.origin, "key": str(key.verifier), "file": str(path)})
    else:
        typer.echo(str(key.verifier))


@contextmanager
def _reading(invocation: Invocation, directory: Path | None, save: Path | None) -> Iterator[Read]:
    """Where checkpoint, tiles and proofs come from. Raises LedgerNotIntact for what a service says of itself."""
    from builder.client.errors import ApiProblem
    from builder.ledger.damage import LedgerNotIntact, Reason

    if directory is not None:
        yield lambda path: content_of(directory / path)
        return
    with invocation.client() as client:

        def read(path: str) -> bytes:
            try:
                content = client.ledger(path)
            except ApiProblem as error:
                if error.told.slug == "ledger-damaged":
                    raise LedgerNotIntact(Reason.UNREADABLE, error.told.detail) from error
                raise
            if save is not None:
                from builder.cli.writing import write

                (save / path).parent.mkdir(parents=True, exist_ok=True)
                write(save / path, content)
            return content

        yield read


def _check_tiles(invocation: Invocation, read: Read, key: str | None, old: Sequence[Path]) -> tuple[Checked, bool]:
    from builder.ledger.following import check_tiles, read_checkpoint

    keys, pinned = _keys(invocation, key, lambda: read("key"))
    newest = read_checkpoint(read, keys)
    return check_tiles(read, newest, [_kept(path, keys) for path in old]), pinned


def _check_database(invocation: Invocation, key: str | None, old: Sequence[Path]) -> tuple[Checked, bool]:
    from builder.ledger import checkpoints
    from builder.ledger.checking import check_database
    from builder.settings import load_settings
    from builder.store.database import Database

    database = Database(load_settings().database_url)
    try:
        with database.read() as session:
            own = "".join(f"{one}\n" for one in checkpoints.keys(session)).encode()
            keys, pinned = _keys(invocation, key, lambda: own)
            return check_database(session, keys, [_kept(path, keys) for path in old]), pinned
    finally:
        database.close()


def _keys(invocation: Invocation, given: str | None, theirs: Callable[[], bytes]) -> tuple[list[VerifierKey], bool]:
    """Whose checkpoints to believe, and whether that was said by the caller. Raises VerifierKeyInvalid."""
    from builder.cli.output import complain
    from builder.ledger.note import parse_key

    configured = invocation.found.configuration.ledger_key if invocation.found else None
    text = given or configured
    if text is not None:
        return read_keys(text), True
    found = [parse_key(line) for line in theirs().decode("utf-8", "replace").split()]
    names = ", ".join(f"{key.name}+{key.id.hex()}" for key in found) or "none"
    complain(f"The key is the ledger's own word ({names}): keep it, and give it with --ledger-key.", "yellow")
    return found, False


def _kept(path: Path, keys: Sequence[VerifierKey]) -> Kept:
    """Raises FileUnreadable, NoteInvalid and NoteNotSigned."""
    from builder.ledger.checkpoint import open_checkpoint
    from builder.ledger.history import Kept

    return Kept(open_checkpoint(content_of(path), keys).checkpoint, str(path))


def _require_continued(kept: Kept, opened: OpenedCheckpoint, read: Read) -> None:
    """That nothing before a kept checkpoint has changed. Raises LedgerNotIntact."""
    from builder.ledger.damage import LedgerNotIntact, Reason
    from builder.ledger.following import nodes_by_tiles
    from builder.merkle.proofs import ProofInvalid, consistency_proof, verify_consistency
    from builder.merkle.tiles import TileInvalid

    old, new = kept.checkpoint, opened.checkpoint
    if old.origin != new.origin:
        raise LedgerNotIntact(Reason.REWRITTEN, f"{kept.source} is of {old.origin}, and this is {new.origin}")
    if old.size > new.size:
        raise LedgerNotIntact(Reason.SHORTENED, f"{kept.source} signed {old.size} entries, and there are {new.size}")
    try:
        path = consistency_proof(old.size, new.size, nodes_by_tiles(read, new.size)) if old.size else []
        if old.size:
            verify_consistency(old.size, new.size, old.root, new.root, path)
    except (ProofInvalid, TileInvalid) as error:
        raise LedgerNotIntact(Reason.REWRITTEN, f"{kept.source} is not continued: {error.detail}") from error


def _refuse(error: LedgerNotIntact, *, machine: bool) -> None:
    from builder.cli.output import complain, print_json

    if machine:
        print_json({"intact": False, "reason": str(error.reason), "detail": error.detail})
    else:
        complain(f"goldsmith: {error.detail}", "red")
    raise typer.Exit(exits.REFUSED) from error


def _told(checked: Checked) -> dict[str, Any]:
    return {
        "entries": checked.size,
        "rootHash": checked.root.hex(),
        "checkpoints": checked.checkpoints,
        "signedEntries": checked.signed,
    }


def _say(checked: Checked) -> None:
    from builder.cli.output import print_fields, styled

    unsigned = checked.size - checked.signed
    print_fields(
        [
            ("intact", styled("yes", "green")),
            ("entries", str(checked.size)),
            ("root", checked.root.hex()),
            ("checkpoints", f"{checked.checkpoints} hold, the largest over {checked.signed} of them"),
            ("not signed yet", str(unsigned) if unsigned else None),
        ]
    )
