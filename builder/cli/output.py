"""What the commands print. Nothing that came from elsewhere reaches a terminal but as visible characters."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_STYLES = {
    "released": "green",
    "locked": "green",
    "planned": "green",
    "reproduced": "green",
    "compared": "green",
    "done": "green",
    "failed": "red",
    "lost": "red",
    "cancelled": "yellow",
    "running": "cyan",
}


def console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def visible(text: str) -> str:
    """One line of text with everything that a terminal might act on written out, such as `\\x1b`."""
    return "".join(
        c if c.isprintable() else "    " if c == "\t" else c.encode("unicode_escape").decode("ascii") for c in text
    )


def styled(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style)


def state_text(state: str) -> Text:
    return styled(state, _STYLES.get(state, ""))


def say(*parts: str | Text) -> None:
    """One line on standard output."""
    console().print(Text.assemble(*(part if isinstance(part, Text) else visible(part) for part in parts)))


def complain(text: str, style: str = "") -> None:
    """One line on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(styled(text, style))


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON in ASCII: control characters are escapes in it, and it survives every terminal and locale."""
    return json.dumps(value, indent=indent, ensure_ascii=True).replace("\x7f", "\\u007f")


def print_json(value: Any, *, indent: int | None = 2) -> None:
    sys.stdout.write(as_json(value, indent=indent) + "\n")


def ascii_json(text: str) -> str:
    """JSON text as it stands, but what is not plain ASCII as escapes: a terminal cannot act on it."""
    return re.sub(r"[^\n -~]", lambda found: as_json(found.group())[1:-1], text)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Columns as wide as what stands in them, never cut and never wrapped by us, so that they can be searched."""
    cells = [[part if isinstance(part, Text) else styled(part) for part in row] for row in rows]
    heads = [Text(heading, style="bold") for heading in headings]
    widths = [max(cell_len(row[column].plain) for row in [heads, *cells]) for column in range(len(headings))]
    out = console()
    for row in [heads, *cells]:
        line = Text("  ").join(
            Text.assemble(cell, " " * (width - cell_len(cell.plain))) for cell, width in zip(row, widths, strict=True)
        )
        line.rstrip()
        out.print(line)


def print_fields(fields: Iterable[tuple[str, str | Text | None]]) -> None:
    """Names and values; what has no value is left out."""
    shown = [(name, value) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(Text(f"{name:<{width}}  ", style="bold"), value)


def size_text(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"


def seconds_text(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
