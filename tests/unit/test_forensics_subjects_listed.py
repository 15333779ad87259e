"""An inventory that somebody sent proves what it lists, and no more is taken from its word."""

from pathlib import Path

import pytest

from builder.forensics.subjects.listed import InventorySubject
from builder.image.inventory import Origin, write_inventory


def inventory(directory: Path, origin: Origin) -> InventorySubject:
    path = directory / "inventory.jsonl.zst"
    write_inventory(iter(()), path, origin=lambda: origin)
    return InventorySubject(path)


def test_how_a_container_was_started_is_in_no_inventory(tmp_path: Path) -> None:
    assert "how the container was started" in inventory(tmp_path, Origin(kind="container", name="web")).unproven[0]


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_what_has_no_start_lacks_nothing(tmp_path: Path, kind: str) -> None:
    assert inventory(tmp_path, Origin(kind=kind, name="x")).unproven == ()


def test_what_was_not_seen_is_not_proven_even_if_its_taker_does_not_say_so(tmp_path: Path) -> None:
    subject = inventory(tmp_path, Origin(kind="directory", name="x", unseen=("/data",)))
    assert subject.unproven == ("what lies at /data",)
    assert not subject.looked_at(b"data/x")
