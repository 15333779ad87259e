"""Whatever an archive says, reading it ends: with a clear error, in little memory, and nothing written elsewhere."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from builder.forensics.sorting import in_canonical_order
from builder.image.tarheader import ArchiveInvalid
from builder.image.tarstream import read_hashed
from tests.unit.hostile_archives import END, HOSTILE, file, header, pax

ROOT = Path(__file__).parents[2]
INVALID, TOO_LARGE = "ArchiveInvalid", "ArchiveTooLarge"
SAID = {
    "climbs out": (INVALID, "/../../etc/cron.d/x climbs out of the tree"),
    "climbs out halfway": (INVALID, "climbs out of the tree"),
    "hard link climbs out": (INVALID, "climbs out of the tree"),
    "hard link to the host": (INVALID, "/a is a hard link to /etc/passwd, which is not in the archive"),
    "below a symlink": (INVALID, "/d/x lies below /d, which is a symlink"),
    "below a hard link": (INVALID, "/d/x lies below /d, which is a hardlink"),
    "ten million entries": (TOO_LARGE, "more than 300000 entries"),
    "a terabyte, sparse": (TOO_LARGE, "expands to more than"),
    "a terabyte, sparse in PAX": (TOO_LARGE, "expands to more than"),
    "a terabyte of zeros": (TOO_LARGE, "expands to more than"),
    "zeros without end": (INVALID, "goes on after its end"),
    "zeros after a file": (INVALID, "goes on after its end"),
    "a long name": (INVALID, "longer than 255 bytes"),
    "a long path": (TOO_LARGE, "longer than 4096 bytes"),
    "a long link": (TOO_LARGE, "longer than 4096 bytes"),
    "a file twice": (INVALID, "/a is in the archive twice"),
    "PAX headers without end": (TOO_LARGE, "extended tar headers are longer than"),
    "global headers without end": (TOO_LARGE, "more than 100 records"),
    "GNU names without end": (TOO_LARGE, "extended tar headers are longer than"),
    "many global records": (TOO_LARGE, "more than 100 records"),
    "a PAX header of 8 GB": (TOO_LARGE, "extended tar headers are longer than"),
    "a sparse map of one line": (INVALID, "a line that is no number"),
    "a sparse map without end": (INVALID, "goes on without an end"),
    "large attributes": (TOO_LARGE, "the names and attributes in the archive"),
    "links to links": (TOO_LARGE, "hard links that lead to hard links"),
    "directories left out": (TOO_LARGE, "leaves out more than 1000000 directories"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_ends_in_a_clear_error_within_bounds(name: str, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    command = [sys.executable, "-m", "tests.unit.hostile_archives", name, str(given)]
    # Its time is bounded by itself, in seconds of the processor.
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    error, detail = SAID[name]
    assert said["error"] == error
    assert detail in said["detail"]
    assert said["peak"] < 150e6
    assert [path for path in tmp_path.rglob("*") if path != given] == []


def paths(data: bytes, directory: Path) -> list[bytes]:
    with in_canonical_order(read_hashed(io.BytesIO(data)), directory) as entries:
        return [entry.path for entry in entries]


def test_an_absolute_name_is_a_name_below_the_root(tmp_path: Path) -> None:
    name = str(tmp_path / "planted").encode()
    found = paths(file(name[:100], b"x") + END, tmp_path)
    assert found[-1] == name.lstrip(b"/")
    assert list(tmp_path.iterdir()) == []


def test_a_symlink_that_leads_out_is_text_and_not_followed(tmp_path: Path) -> None:
    assert paths(header(b"etc", b"2", link=b"/etc") + END, tmp_path) == [b"etc"]


def test_an_archive_cut_off_anywhere_gives_no_entries_that_could_pass_for_all(tmp_path: Path) -> None:
    whole = pax((b"SCHILY.xattr.user.x", b"1")) + file(b"a", b"content" * 100) + header(b"b", b"1", link=b"a") + END
    assert paths(whole, tmp_path) == [b"a", b"b"]
    for cut in range(0, len(whole), 32):
        with pytest.raises(ArchiveInvalid, match="ends in the middle"):
            paths(whole[:cut], tmp_path)
