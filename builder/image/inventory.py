"""The inventory: every path of an image's root file system, one line each, under one Merkle root.

The format is docs/formats/inventory.md: JSON Lines, compressed with zstd. Reader and writer stream; the reader believes
nothing until count, order and root are checked at the end.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.errors import Rejected
from builder.image.canonical_json import canonical_json
from builder.image.digests import Digest, digest_of_file
from builder.image.entry import Entry, EntryType, canonical_key, make_entry, shown
from builder.image.packing import CompressionInvalid, unpacked
from builder.merkle.frontier import Frontier
from builder.merkle.hashing import leaf_hash

FORMAT = "goldsmith-inventory/v1"
MEDIA_TYPE = "application/vnd.goldsmith.inventory.v1+zstd"

_LEVEL = 9
_MAX_LINE = 1024 * 1024
_MAX_WINDOW = 8 * 1024 * 1024
_MAX_ENTRIES = 10_000_000


class InventoryInvalid(Rejected):
    slug = "inventory-invalid"
    title = "The inventory is not valid"


@dataclass(frozen=True, slots=True)
class Package:
    """The package that installed a path."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Record:
    """One line of an inventory."""

    entry: Entry
    package: Package | None = None


class Origin(BaseModel):
    """Of what an inventory was taken that is no image's own, and what of that nobody looked at.

    `unproven` says so in plain words, `unseen` lists the paths, absolute, of which the lines do not speak.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str
    id: str | None = None
    images: tuple[str, ...] = ()
    state: str | None = None
    mounts: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


class Header(BaseModel):
    """The first line. `root` is the Merkle root over all other lines, without their line ends.

    The inventory that is made with an image has no `subject`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = Field(default=FORMAT, pattern=f"^{FORMAT}$")
    entries: int = Field(ge=0, le=_MAX_ENTRIES)
    root: Digest
    subject: Origin | None = None


@dataclass(frozen=True)
class Inventory:
    """An inventory in a file; `digest` and `size` are of the compressed file, `root` does not depend on compression."""

    path: Path
    digest: str
    size: int
    entries: int
    root: str
    media_type: str = MEDIA_TYPE


def write_inventory(
    entries: Iterable[Entry],
    destination: Path,
    *,
    owner: Callable[[Entry], Package | None] = lambda _: None,
    origin: Callable[[], Origin | None] = lambda: None,
) -> Inventory:
    """Write entries, in canonical order, to the new file `destination`. `owner` names the package of an entry.

    `origin` is asked when the last entry has been taken.
    """
    tree, count = Frontier(), 0
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=False)
    # The root stands before the lines it is made of: they wait in a file, so that memory does not grow with them.
    with tempfile.TemporaryFile(dir=destination.parent) as lines, destination.open("xb") as out:
        for entry in entries:
            line = encode_record(Record(entry, owner(entry)))
            tree.append(leaf_hash(line))
            lines.write(line + b"\n")
            count += 1
        header = Header(entries=count, root=f"sha256:{tree.root().hex()}", subject=origin())
        lines.seek(0)
        with compressor.stream_writer(out, closefd=False) as writer:
            writer.write(canonical_json(header.model_dump(mode="json", exclude_none=True)) + b"\n")
            for line in lines:
                writer.write(line)
    return Inventory(destination, digest_of_file(destination), destination.stat().st_size, header.entries, header.root)


@contextmanager
def open_inventory(path: Path) -> Iterator[tuple[Header, Iterator[Record]]]:
    """Give the header, and the records one by one.

    Raises InventoryInvalid for anything not as the format says; a wrong count or root shows only after the last record,
    so act on records alone when all have been read.
    """
    with path.open("rb") as stream:
        lines = _lines(unpacked(stream, max_window=_MAX_WINDOW))
        try:
            header = Header.model_validate_json(next(lines, b""))
        except ValidationError as error:
            raise InventoryInvalid(f"the file is no inventory of the format {FORMAT}") from error
        yield header, _records(header, lines)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    try:
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            if len(rest) > _MAX_LINE:
                raise InventoryInvalid(f"a line of the inventory is longer than {_MAX_LINE} bytes")
    except CompressionInvalid as error:
        raise InventoryInvalid("the inventory is not compressed as the format says, or is damaged") from error
    if rest:
        raise InventoryInvalid("the inventory ends in the middle of a line", hint="it was cut off")


def _records(header: Header, lines: Iterable[bytes]) -> Iterator[Record]:
    tree = Frontier()
    count, last = 0, b""
    for line in lines:
        record = decode_record(line)
        key = canonical_key(record.entry.path)
        if count and key <= last:
            raise InventoryInvalid(f"{shown(record.entry.path)} is out of order in the inventory")
        tree.append(leaf_hash(line))
        count, last = count + 1, key
        if count > header.entries:
            break
        yield record
    if count != header.entries:
        raise InventoryInvalid(
            f"the inventory announces {header.entries} entries and has {'more' if count > header.entries else count}"
        )
    if f"sha256:{tree.root().hex()}" != header.root:
        raise InventoryInvalid("the inventory's lines do not give the Merkle root in its header")


_PLAIN_TEXT = re.compile(rb"[ !#-\[\]-~]+")  # what JSON strings hold as it is, of ASCII
_EXACT = 1 << 53  # RFC 8785 takes numbers for doubles


def encode_record(record: Record) -> bytes:
    """The line of a record, without its line end."""
    entry, target = record.entry, record.entry.target
    # Nearly all lines can be put together: nothing in them could be written otherwise.
    if (
        entry.device is None
        and not entry.xattrs
        and _PLAIN_TEXT.fullmatch(entry.path)
        and (target is None or _PLAIN_TEXT.fullmatch(target))
        and max(entry.uid, entry.gid, entry.size) < _EXACT
    ):
        content = "" if entry.sha256 is None else f'"sha256":"{entry.sha256}","size":{entry.size},'
        linked = "" if target is None else f'"target":"{target.decode("ascii")}",'
        return (
            f'{{"gid":{entry.gid},"mode":"{entry.mode:04o}",{_packaged(record.package)}'
            f'"path":"{entry.path.decode("ascii")}",{content}{linked}"type":"{entry.type}","uid":{entry.uid}}}'
        ).encode()
    return _encode_any(record)


@lru_cache(4096)
def _packaged(package: Package | None) -> str:
    if package is None:
        return ""
    return f'"package":{canonical_json({"name": package.name, "version": package.version}).decode()},'


def _encode_any(record: Record) -> bytes:
    entry = record.entry
    line: dict[str, Any] = {
        "type": str(entry.type),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        **_named("path", entry.path),
    }
    if entry.sha256 is not None:
        line["sha256"] = entry.sha256
        line["size"] = entry.size
    if entry.target is not None:
        line |= _named("target", entry.target)
    if entry.device is not None:
        line["device"] = list(entry.device)
    if entry.xattrs:
        line["xattrs"] = {name.decode("ascii"): base64.b64encode(value).decode("ascii") for name, value in entry.xattrs}
    if record.package is not None:
        line["package"] = {"name": record.package.name, "version": record.package.version}
    return canonical_json(line)


_NUMBER = rb"(0|[1-9][0-9]{,18})"
_TEXT = rb"([ !#-\[\]-~]+)"  # what JSON strings hold as it is, of ASCII
_PLAIN = re.compile(
    rb'\{"gid":' + _NUMBER + rb',"mode":"([0-7]{4})",'
    rb'(?:"package":\{"name":"' + _TEXT + rb'","version":"' + _TEXT + rb'"\},)?"path":"' + _TEXT + rb'",'
    rb'(?:"sha256":"([0-9a-f]{64})","size":' + _NUMBER + rb',)?(?:"target":"' + _TEXT + rb'",)?'
    rb'"type":"([a-z]+)","uid":' + _NUMBER + rb"\}"
)  # fmt: skip
_TYPES = {str(one).encode("ascii"): one for one in EntryType}


def decode_record(line: bytes) -> Record:
    """The record of a line. Raises InventoryInvalid unless the line is exactly what `encode_record` gives for it."""
    # Nearly all lines fit the pattern. One that does is in canonical form: nothing in it could be written otherwise.
    plain = _PLAIN.fullmatch(line)
    if plain is None or plain[9] not in _TYPES:
        return _decode_any(line)
    gid, mode, name, version, path, sha256, size, target, kind, uid = plain.groups()
    return Record(
        make_entry(
            path, _TYPES[kind], int(mode, 8), int(uid), int(gid),
            int(size or b"0"), sha256.decode("ascii") if sha256 else None, target, None, (),
        ),
        _package(name, version) if name else None,
    )  # fmt: skip


@lru_cache(4096)
def _package(name: bytes, version: bytes) -> Package:
    return Package(name.decode("ascii"), version.decode("ascii"))


def _decode_any(line: bytes) -> Record:
    try:
        fields = json.loads(line)
        package = fields.get("package")
        record = Record(
            Entry(
                path=_unnamed("path", fields),
                type=EntryType(fields["type"]),
                mode=int(fields["mode"], 8),
                uid=fields["uid"],
                gid=fields["gid"],
                size=fields.get("size", 0),
                sha256=fields.get("sha256"),
                target=_unnamed("target", fields) if {"target", "target_base64"} & fields.keys() else None,
                device=(fields["device"][0], fields["device"][1]) if "device" in fields else None,
                xattrs=tuple(
                    sorted((name.encode("ascii"), base64.b64decode(v)) for name, v in fields.get("xattrs", {}).items())
                ),
            ),
            Package(package["name"], package["version"]) if package else None,
        )
        exact = _encode_any(record) == line
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise InventoryInvalid(f"a line of the inventory cannot be read: {line[:120]!r}") from error
    if not exact:
        raise InventoryInvalid(f"a line of the inventory is not in its one canonical form: {line[:120]!r}")
    return record


def _named(key: str, name: bytes) -> dict[str, str]:
    """A name as text, or in base64 under another key: JSON has no way to write bytes that are not UTF-8."""
    try:
        return {key: name.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{key}_base64": base64.b64encode(name).decode("ascii")}


def _unnamed(key: str, fields: dict[str, Any]) -> bytes:
    if key in fields:
        return str(fields[key]).encode("utf-8")
    return base64.b64decode(fields[f"{key}_base64"], validate=True)
