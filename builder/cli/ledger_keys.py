"""Verifier keys of ledgers, as the command line and the configuration name them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.errors import Rejected

if TYPE_CHECKING:
    from builder.ledger.note import VerifierKey

LedgerKeyOption = Annotated[
    str | None,
    typer.Option("--ledger-key", metavar="KEY|FILE", help="The verifier key to believe, or a file of such keys."),
]


class FileUnreadable(Rejected):
    slug = "file-unreadable"
    title = "A file cannot be read"


def read_keys(text: str) -> list[VerifierKey]:
    """Of the key itself, or of a file with one in each line. Raises FileUnreadable and VerifierKeyInvalid."""
    from builder.ledger.note import parse_key

    named = text if "+" in text and not Path(text).exists() else content_of(Path(text)).decode("utf-8", "replace")
    found = [parse_key(line) for line in named.split()]
    if not found:
        # Without a key nothing would be checked, and that looks like success.
        raise FileUnreadable(f"{text} has no verifier key", hint="`goldsmith ledger key show` prints one")
    return found


def content_of(path: Path) -> bytes:
    """Raises FileUnreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadable(f"{path} cannot be read: {error.strerror}") from error
