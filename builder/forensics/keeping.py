"""Evidence kept: the files that changed or came, under names that are digests, and diffs against the golden content.

Nothing here takes a name from the subject: what lies in `files/` is named by its own sha256, and index.json maps paths
to that. All is mode 0600 in directories of 0700, so nothing kept can be run by accident.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from builder.errors import Rejected
from builder.forensics.findings import Difference, Finding
from builder.forensics.report import path_text
from builder.image.entry import Entry, EntryType

Contents = Callable[[Collection[bytes]], Iterator[tuple[bytes, Iterator[bytes]]]]
FORMAT = "goldsmith-evidence/v1"
_DIFF_BYTES = 256 * 1024
_DIFF_LINES = 20_000
_DIFF_PRODUCT = 2_000_000


class EvidenceDirectoryUnusable(Rejected):
    slug = "evidence-directory-unusable"
    title = "Evidence cannot be kept in this directory"


@dataclass(frozen=True)
class Limits:
    """`bytes` is of all kept files together."""

    files: int = 10_000
    bytes: int = 2 * 1024**3


@dataclass(frozen=True)
class Kept:
    """What was kept in `directory`; `left_out` says of each path why its content was not."""

    directory: Path
    files: int
    bytes: int
    diffs: int
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def prepare(directory: Path) -> None:
    """Make a new directory for evidence, before long work for nothing. Raises EvidenceDirectoryUnusable."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if directory.is_symlink() or any(directory.iterdir()):
            raise EvidenceDirectoryUnusable(
                f"{directory} is not empty: evidence of one comparison is not mixed with another's",
                hint="name a directory that is not there yet",
            )
        directory.chmod(0o700)
    except OSError as error:
        raise EvidenceDirectoryUnusable(f"{directory} cannot be made: {error.strerror}") from error


def keep_evidence(
    directory: Path,
    findings: Sequence[Finding],
    subject: Contents,
    golden: Contents | None,
    *,
    limits: Limits | None = None,
    why_no_golden: str = "the golden content could not be had",
) -> Kept:
    """Keep the content behind `findings` in a directory that `prepare` made, the gravest first as far as limits go.

    `subject` and `golden` give contents by path. Raises EvidenceDirectoryUnusable if writing fails, and what reading
    the contents raises.
    """
    keeper = _Keeper(directory, limits or Limits())
    try:
        for part in ("files", "diffs"):
            (directory / part).mkdir(mode=0o700)
        keeper.keep(findings, subject)
        if golden is not None:
            keeper.diff(findings, golden)
        elif any(_diffable(one.difference) for one in findings):
            keeper.notes.append(f"no diffs: {why_no_golden}")
        keeper.write_index(findings)
    except OSError as error:
        raise EvidenceDirectoryUnusable(f"{directory} cannot be written: {error.strerror}") from error
    return Kept(
        directory, len(keeper.sizes), keeper.total, len(keeper.diffs), tuple(keeper.left_out), tuple(keeper.notes)
    )


def add(directory: Path, name: str, content: bytes) -> None:
    """Put a file of ours beside the evidence. Raises EvidenceDirectoryUnusable."""
    try:
        with _create(directory / name) as out:
            out.write(content)
    except OSError as error:
        raise EvidenceDirectoryUnusable(f"{directory} cannot be written: {error.strerror}") from error


class _Keeper:
    def __init__(self, directory: Path, limits: Limits) -> None:
        self.directory = directory
        self.limits = limits
        self.total = 0
        self.sizes: dict[str, int] = {}
        self.found: dict[bytes, str] = {}
        self.diffs: dict[bytes, str] = {}
        self.left_out: list[tuple[str, str]] = []
        self.notes: list[str] = []

    def keep(self, findings: Sequence[Finding], contents: Contents) -> None:
        chosen = self._chosen(findings)
        for path, chunks in contents(chosen.keys()) if chosen else ():
            entry = chosen.pop(path, None)
            if entry is not None:
                self._store(path, chunks, entry)
        for path in sorted(chosen):
            self._leave(path, "its content could not be had")

    def _chosen(self, findings: Sequence[Finding]) -> dict[bytes, Entry]:
        """Before anything is read, by what the comparison saw: findings come gravest first, contents in any order."""
        chosen: dict[bytes, Entry] = {}
        planned = 0
        for one in findings:
            entry, path = one.difference.subject, _source(one.difference)
            if entry is None or path is None or path in chosen:
                continue
            if len(chosen) >= self.limits.files:
                self._leave(path, f"more than {self.limits.files} files")
            elif planned + entry.size > self.limits.bytes:
                self._leave(path, f"more than {self.limits.bytes} bytes in all")
            else:
                chosen[path] = entry
                planned += entry.size
        return chosen

    def _store(self, path: bytes, chunks: Iterable[bytes], entry: Entry) -> None:
        digest, size = hashlib.sha256(), 0
        spool = self.directory / "files" / "incomplete"
        with _create(spool) as out:
            for chunk in chunks:
                size += len(chunk)
                if self.total + size > self.limits.bytes:
                    break
                digest.update(chunk)
                out.write(chunk)
        if self.total + size > self.limits.bytes:
            spool.unlink()
            self._leave(path, f"more than {self.limits.bytes} bytes in all: it grew after it was compared")
            return
        name = digest.hexdigest()
        spool.replace(self.directory / "files" / name)
        self.total += size if name not in self.sizes else 0
        self.sizes[name] = size
        self.found[path] = name
        if entry.sha256 != name:
            self.notes.append(f"{path_text(path)[0]} changed after it was compared; kept as it is now")

    def diff(self, findings: Sequence[Finding], golden: Contents) -> None:
        before = {
            one.difference.golden.path: one.difference
            for one in findings
            if one.difference.golden is not None and _diffable(one.difference)
            if _source(one.difference) in self.found
        }
        for path, chunks in golden(before.keys()) if before else ():
            difference = before.get(path)
            if difference is None or difference.golden is None:
                continue
            content = b"".join(chunks)
            if hashlib.sha256(content).hexdigest() == difference.golden.sha256:
                self._diff(difference, content)
            else:
                self.notes.append(f"no diff of {path_text(path)[0]}: what was fetched is not the golden content")

    def _diff(self, difference: Difference, golden: bytes) -> None:
        kept = self.directory / "files" / self.found[_source(difference) or b""]
        if kept.stat().st_size > _DIFF_BYTES:
            return
        before, now = _text_lines(golden), _text_lines(kept.read_bytes())
        if before is None or now is None or not _quickly_compared(before, now):
            return
        name = path_text(difference.path)[0]
        told = difflib.unified_diff(before, now, f"golden{name}", f"subject{name}", lineterm="")
        file = f"{hashlib.sha256(difference.path).hexdigest()}.diff"
        with _create(self.directory / "diffs" / file) as out:
            out.write(("\n".join(told) + "\n").encode("utf-8"))
        self.diffs[difference.path] = file

    def write_index(self, findings: Sequence[Finding]) -> None:
        rows = []
        for one in findings:
            source = _source(one.difference)
            if source is None or source not in self.found:
                continue
            path, _ = path_text(one.difference.path)
            rows.append(
                {
                    "path": path,
                    "sha256": self.found[source],
                    "size": self.sizes[self.found[source]],
                    "severity": str(one.severity),
                    "rule": one.rule,
                    "diff": f"diffs/{self.diffs[one.difference.path]}" if one.difference.path in self.diffs else None,
                }
            )
        index = {
            "format": FORMAT,
            "files": rows,
            "leftOut": [{"path": path, "why": why} for path, why in self.left_out],
            "notes": self.notes,
        }
        with _create(self.directory / "index.json") as out:
            out.write((json.dumps(index, indent=2, ensure_ascii=True) + "\n").encode("ascii"))

    def _leave(self, path: bytes, why: str) -> None:
        self.left_out.append((path_text(path)[0], why))


def _source(difference: Difference) -> bytes | None:
    """Where in the subject the content of a difference lies: of a hard link at its target. None where there is none."""
    entry = difference.subject
    if entry is None or entry.sha256 is None or not _is_file(entry):
        return None
    if difference.golden is not None and difference.golden.sha256 == entry.sha256 and difference.moved_from is None:
        return None  # the content is the golden one
    return entry.target if entry.type is EntryType.HARDLINK and entry.target is not None else entry.path


def _diffable(difference: Difference) -> bool:
    golden, subject = difference.golden, difference.subject
    return (
        golden is not None
        and subject is not None
        and golden.type is EntryType.FILE
        and _is_file(subject)
        and golden.sha256 != subject.sha256
        and max(golden.size, subject.size) <= _DIFF_BYTES
    )


def _is_file(entry: Entry) -> bool:
    return entry.type in (EntryType.FILE, EntryType.HARDLINK)


def _text_lines(content: bytes) -> list[str] | None:
    """Lines that are safe to show, or None for what is no text."""
    if len(content) > _DIFF_BYTES or b"\0" in content:
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return ["".join(c if c.isprintable() or c == "\t" else _written(c) for c in line) for line in text.split("\n")]


def _quickly_compared(before: list[str], now: list[str]) -> bool:
    """difflib takes the product of what differs, or worse, and a subject may be made to exhaust it."""
    alike = 0
    while alike < min(len(before), len(now)) and before[alike] == now[alike]:
        alike += 1
    return len(before) + len(now) <= _DIFF_LINES and (len(before) - alike) * (len(now) - alike) <= _DIFF_PRODUCT


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _create(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")
