"""Evidence is kept under names of ours, within limits, and nothing is left out without a word."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.forensics.findings import Difference, Finding, Kind, Severity
from builder.forensics.keeping import EvidenceDirectoryUnusable, Kept, Limits, keep_evidence, prepare
from builder.image.entry import Entry, EntryType


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(path: bytes, content: bytes, **fields: object) -> Entry:
    made = Entry(path, EntryType.FILE, 0o4755, 0, 0, len(content), sha256(content))
    return replace(made, **fields)  # type: ignore[arg-type]


def found(difference: Difference, severity: Severity = Severity.HIGH) -> Finding:
    return Finding(difference, severity, "rule", "why")


def added(path: bytes, content: bytes, severity: Severity = Severity.HIGH) -> Finding:
    return found(Difference(path, (Kind.ADDED,), None, entry(path, content)), severity)


def changed(path: bytes, before: bytes, now: bytes) -> Finding:
    return found(Difference(path, (Kind.CONTENT,), entry(path, before), entry(path, now)))


class Source:
    """Contents by path, as a subject gives them: in its own order, whatever was asked for first."""

    def __init__(self, contents: dict[bytes, bytes]) -> None:
        self.given = contents
        self.asked: set[bytes] = set()

    def __call__(self, paths: Collection[bytes]) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        self.asked |= set(paths)
        for path in sorted(self.given):
            if path in paths:
                yield path, iter([self.given[path][:3], self.given[path][3:]])


def kept(
    directory: Path, findings: list[Finding], subject: dict[bytes, bytes], golden: dict[bytes, bytes] | None = None,
    limits: Limits | None = None,
) -> tuple[Kept, dict[str, Any]]:  # fmt: skip
    target = directory / "evidence"
    prepare(target)
    outcome = keep_evidence(
        target, findings, Source(subject), Source(golden) if golden is not None else None, limits=limits
    )
    return outcome, json.loads((target / "index.json").read_text())


def test_files_are_named_by_their_content_and_the_index_says_where_they_were(tmp_path: Path) -> None:
    outcome, index = kept(tmp_path, [added(b"tmp/miner", b"ELF")], {b"tmp/miner": b"ELF"})
    assert (outcome.files, outcome.bytes, outcome.left_out) == (1, 3, ())
    assert index["files"] == [
        {"path": "/tmp/miner", "sha256": sha256(b"ELF"), "size": 3, "severity": "high", "rule": "rule", "diff": None}
    ]
    assert (tmp_path / "evidence/files" / sha256(b"ELF")).read_bytes() == b"ELF"


def test_nothing_kept_can_run_or_be_read_by_others(tmp_path: Path) -> None:
    kept(tmp_path, [changed(b"a", b"1\n", b"2\n")], {b"a": b"2\n"}, {b"a": b"1\n"})
    modes = {
        path.relative_to(tmp_path).parts[1:2] or ("",): stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "evidence").rglob("*")
    }
    for path in (tmp_path / "evidence", *(tmp_path / "evidence").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert modes


@pytest.mark.parametrize(
    "path", [b"../../../escape", b"/etc/passwd", b"a/../../x", b"\xff\n\x1b[2J", b"files/incomplete"]
)
def test_no_name_of_the_subject_becomes_a_name_of_ours(tmp_path: Path, path: bytes) -> None:
    before = set(tmp_path.rglob("*"))
    kept(tmp_path, [changed(path, b"1\n", b"2\n")], {path: b"2\n"}, {path: b"1\n"})
    names = {found.name for found in set(tmp_path.rglob("*")) - before}
    assert names == {
        "evidence", "files", "diffs", "index.json", sha256(b"2\n"), f"{sha256(path)}.diff"
    }  # fmt: skip


def test_text_is_diffed_against_the_golden_content(tmp_path: Path) -> None:
    golden, now = b"a\nb\nc\n", b"a\nB\x1b[2J\nc\n"
    outcome, index = kept(tmp_path, [changed(b"etc/x", golden, now)], {b"etc/x": now}, {b"etc/x": golden})
    assert outcome.diffs == 1
    told = (tmp_path / "evidence" / index["files"][0]["diff"]).read_text()
    assert told.splitlines()[:2] == ["--- golden/etc/x", "+++ subject/etc/x"]
    assert "-b\n+B\\x1b[2J\n" in told
    assert "\x1b" not in told


@pytest.mark.parametrize(("golden", "now"), [(b"a\0", b"b"), (b"a", b"b\0"), (b"\xff", b"b"), (b"a", b"b\n" * 200_000)])
def test_what_is_no_small_text_is_kept_without_a_diff(tmp_path: Path, golden: bytes, now: bytes) -> None:
    outcome, index = kept(tmp_path, [changed(b"x", golden, now)], {b"x": now}, {b"x": golden})
    assert (outcome.files, outcome.diffs, index["files"][0]["diff"]) == (1, 0, None)


def test_a_subject_made_to_exhaust_a_diff_costs_little(tmp_path: Path) -> None:
    golden = b"".join(b"%d\n" % (number % 99) for number in range(9000))
    now = b"".join(b"%d\n" % (number % 98) for number in range(9000))
    outcome, _ = kept(tmp_path, [changed(b"x", golden, now)], {b"x": now}, {b"x": golden})
    assert (outcome.files, outcome.diffs) == (1, 0)


def test_golden_content_that_is_not_what_was_signed_is_not_used(tmp_path: Path) -> None:
    outcome, _ = kept(tmp_path, [changed(b"x", b"1\n", b"2\n")], {b"x": b"2\n"}, {b"x": b"forged\n"})
    assert outcome.diffs == 0
    assert outcome.notes == ("no diff of /x: what was fetched is not the golden content",)


def test_without_golden_content_that_is_said(tmp_path: Path) -> None:
    outcome, index = kept(tmp_path, [changed(b"x", b"1\n", b"2\n")], {b"x": b"2\n"})
    assert outcome.notes == ("no diffs: the golden content could not be had",)
    assert index["notes"] == list(outcome.notes)


def test_the_gravest_are_kept_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    findings = [added(b"z-grave", b"11"), added(b"b-next", b"22"), added(b"a-least", b"333")]
    contents = {b"z-grave": b"11", b"b-next": b"22", b"a-least": b"333"}
    outcome, index = kept(tmp_path, findings, contents, limits=Limits(bytes=5))
    assert [one["path"] for one in index["files"]] == ["/z-grave", "/b-next"]
    assert outcome.left_out == (("/a-least", "more than 5 bytes in all"),)
    assert index["leftOut"] == [{"path": "/a-least", "why": "more than 5 bytes in all"}]


def test_the_number_of_files_is_limited(tmp_path: Path) -> None:
    findings = [added(b"%d" % number, b"%d" % number) for number in range(5)]
    outcome, _ = kept(
        tmp_path, findings, {b"%d" % number: b"%d" % number for number in range(5)}, limits=Limits(files=3)
    )
    assert (outcome.files, len(outcome.left_out)) == (3, 2)


def test_a_file_that_grows_while_it_is_kept_stays_within_the_limit(tmp_path: Path) -> None:
    outcome, _ = kept(tmp_path, [added(b"x", b"1")], {b"x": b"1" * 1000}, limits=Limits(bytes=100))
    assert (outcome.files, outcome.bytes) == (0, 0)
    assert "it grew after it was compared" in outcome.left_out[0][1]
    assert list((tmp_path / "evidence/files").iterdir()) == []


def test_a_file_that_changed_meanwhile_is_kept_and_said_to_have(tmp_path: Path) -> None:
    outcome, _ = kept(tmp_path, [added(b"x", b"then")], {b"x": b"now!"})
    assert outcome.files == 1
    assert outcome.notes == ("/x changed after it was compared; kept as it is now",)


def test_what_is_gone_by_now_is_named(tmp_path: Path) -> None:
    outcome, _ = kept(tmp_path, [added(b"x", b"then")], {})
    assert outcome.left_out == (("/x", "its content could not be had"),)


def test_only_content_that_differs_is_asked_for(tmp_path: Path) -> None:
    same = entry(b"m", b"1")
    link = entry(b"l", b"2", type=EntryType.HARDLINK, target=b"first")
    findings = [
        found(Difference(b"m", (Kind.MODE,), same, replace(same, mode=0o777))),
        found(Difference(b"r", (Kind.REMOVED,), entry(b"r", b"1"), None)),
        found(Difference(b"d", (Kind.ADDED,), None, Entry(b"d", EntryType.DIRECTORY, 0o755, 0, 0))),
        found(Difference(b"u", (Kind.ADDED,), None, entry(b"u", b"", sha256=None))),
        found(Difference(b"l", (Kind.ADDED,), None, link)),
    ]
    source = Source({b"first": b"2"})
    prepare(tmp_path / "evidence")
    outcome = keep_evidence(tmp_path / "evidence", findings, source, None)
    assert source.asked == {b"first"}
    assert outcome.files == 1


class TestDirectory:
    def test_one_that_is_not_empty_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "x").touch()
        with pytest.raises(EvidenceDirectoryUnusable, match="is not empty"):
            prepare(tmp_path / "mine")

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "link").symlink_to("there")
        with pytest.raises(EvidenceDirectoryUnusable):
            prepare(tmp_path / "link")

    def test_one_that_cannot_be_made_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(EvidenceDirectoryUnusable, match="cannot be made"):
            prepare(tmp_path / "no" / "where")
