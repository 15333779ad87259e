"""The reference pages are what the code says."""

from __future__ import annotations

from scripts.generate_docs import DOCS, pages


def test_the_generated_pages_are_current() -> None:
    stale = [name for name, text in pages().items() if (DOCS / name).read_text() != text]
    assert stale == [], "run `python -m scripts.generate_docs`"
