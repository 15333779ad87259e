"""The shortest recipes there are, as somebody writes them."""

from __future__ import annotations


def recipe_text(name: str, base: str | None) -> str:
    """On another recipe, or on Debian."""
    start = f"{{recipe: {base}}}" if base else "{debian: {suite: trixie}}"
    return (
        f"apiVersion: goldsmith/v1\nkind: Image\nmetadata: {{name: {name}}}\n"
        f"spec:\n  base: {start}\n  publish: {{repository: golden/{name}}}\n"
    )
