"""The reference pages are what the code says."""

from __future__ import annotations

from scripts.generate_docs import DOCS, pages


def test_the_generated_pages_are_current() -> None:
    for name, text in pages().items():
        assert (DOCS / name).read_text().splitlines() == text.splitlines(), "run `python -m scripts.generate_docs`"
