"""Every claim of the threat model names a test, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = (ROOT / "docs/security/threat-model.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)*)`", MODEL)))


def test_it_names_many() -> None:
    assert len(NAMED) > 50


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_is_there(name: str) -> None:
    file, *parts = name.split("::")
    text = (ROOT / file).read_text("utf-8")
    for part in parts:
        assert re.search(rf"^\s*(def|class) {part}\b", text, re.M), name


@pytest.mark.parametrize("row", [line for line in MODEL.splitlines() if re.match(r"\| ([STRIDE, ]+|any) \|", line)])
def test_a_threat_has_its_test(row: str) -> None:
    assert "`tests/" in row.rsplit("|", 2)[1]


@pytest.mark.parametrize("page", sorted((ROOT / "docs/security").glob("*.md")), ids=lambda page: page.stem)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        assert "://" in target or (page.parent / target).exists(), target
