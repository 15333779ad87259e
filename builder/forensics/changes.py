"""What changed about one path, in a line or two: the members that differ, before and after, and no others."""

from __future__ import annotations

from collections.abc import Iterator

from builder.forensics.report import EntryTold, FindingTold


def change_lines(finding: FindingTold) -> list[str]:
    return lines_between(finding.kinds, finding.golden, finding.subject, finding.moved_from)


def lines_between(
    kinds: tuple[str, ...], golden: EntryTold | None, subject: EntryTold | None, moved_from: str | None
) -> list[str]:
    """For a changed path what was and what is; for one that came or went what it is or was."""
    lines = [f"from {moved_from}"] if moved_from is not None else []
    if golden is None or subject is None:
        there = subject or golden
        return [*lines, _whole(there)] if there is not None else lines
    return [*lines, *_changes(kinds, golden, subject)]


def _changes(kinds: tuple[str, ...], golden: EntryTold, subject: EntryTold) -> Iterator[str]:
    if "type" in kinds:
        yield f"{_whole(golden)} -> {_whole(subject)}"
        return
    if "content" in kinds:
        yield f"{_content(golden)} -> {_content(subject)}"
    if "link" in kinds:
        yield f"{_link(golden)} -> {_link(subject)}"
    if "mode" in kinds:
        yield f"mode {golden.mode} -> {subject.mode}"
    if "owner" in kinds:
        yield f"owner {golden.uid}:{golden.gid} -> {subject.uid}:{subject.gid}"
    if "device" in kinds:
        yield f"device {golden.device} -> {subject.device}"
    if "xattr" in kinds or "capability" in kinds:
        names = golden.xattrs.keys() | subject.xattrs.keys()
        yield from (
            f"{name} {golden.xattrs.get(name, 'none')} -> {subject.xattrs.get(name, 'none')}"
            for name in sorted(names)
            if golden.xattrs.get(name) != subject.xattrs.get(name)
        )


def _whole(entry: EntryTold) -> str:
    told = f"{entry.type} {entry.mode} {entry.uid}:{entry.gid}"
    if entry.sha256 is not None:
        told += f", {_content(entry)}"
    if entry.target is not None:
        told += f" to {entry.target}"
    if entry.device is not None:
        told += f" {entry.device[0]}:{entry.device[1]}"
    return told


def _content(entry: EntryTold) -> str:
    if entry.sha256 is None:
        return "content that could not be read"
    return f"{entry.size} bytes sha256:{entry.sha256[:16]}…"


def _link(entry: EntryTold) -> str:
    return f"to {entry.target}" if entry.target is not None else entry.type
