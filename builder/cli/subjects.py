"""What the command line calls a subject: `KIND:NAME`, or a name alone where only one kind is likely."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import Rejected

if TYPE_CHECKING:
    from builder.forensics.subjects.subject import Subject

KINDS = ("container", "image", "layout", "tar", "dir", "inventory")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_INVENTORIES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
_HINT = "write KIND:NAME, where KIND is one of " + ", ".join(KINDS)


class SubjectUnclear(Rejected):
    slug = "subject-unclear"
    title = "It is not clear what is to be compared"


def told_subject(text: str) -> tuple[str, str]:
    """Kind and name. Raises SubjectUnclear.

    A name alone is a container, as engines allow no "/" in theirs; `-` is a tar archive on standard input. Files are
    known by how they end, directories by a "/" and by being there; what names a registry and a digest or tag is an
    image.
    """
    kind, colon, name = text.partition(":")
    if colon and kind in KINDS:
        if not name:
            raise SubjectUnclear(f"{text!r} names nothing", hint=_HINT)
        return kind, name
    if not text:
        raise SubjectUnclear("nothing is named to compare", hint=_HINT)
    if text == "-" or text.endswith(_ARCHIVES):
        return "tar", text
    if text.endswith(_INVENTORIES):
        return "inventory", text
    if "/" not in text:
        return "container", text
    directory, image = Path(text).is_dir(), _names_an_image(text)
    if directory and image:
        raise SubjectUnclear(f"{text!r} may be a directory and an image", hint=_HINT)
    if not directory and not image:
        raise SubjectUnclear(f"{text!r} is no directory, and names no image in a registry", hint=_HINT)
    return ("dir" if directory else "image"), text


@contextmanager
def subject_of(text: str, *, engine_url: str, fast: bool, docker_config: Path | None) -> Iterator[Subject]:
    """Raises SubjectUnclear, and what opening the subject raises."""
    kind, name = told_subject(text)
    if fast and kind != "container":
        raise SubjectUnclear(f"--fast reads what an engine names as changed, and {text!r} is no container")
    if kind == "container":
        from builder.forensics.subjects.changed import ChangedSubject
        from builder.forensics.subjects.container import ContainerSubject, engine_at, find_container

        with engine_at(engine_url) as engine:
            container = find_container(engine, name)
            yield ChangedSubject(engine, container) if fast else ContainerSubject(engine, container)
    elif kind == "image":
        from builder.cli.evidence import registry_access
        from builder.forensics.subjects.image import image_in_registry
        from builder.registry.reference import parse_reference

        with image_in_registry(registry_access(docker_config), parse_reference(name)) as subject:
            yield subject
    elif kind == "layout":
        from builder.forensics.subjects.image import image_in_layout

        with image_in_layout(Path(name)) as subject:
            yield subject
    elif kind == "dir":
        from builder.forensics.subjects.directory import open_directory

        with open_directory(name) as tree:
            yield tree
    elif kind == "inventory":
        from builder.forensics.subjects.listed import InventorySubject

        yield InventorySubject(Path(name))
    else:
        with _archive(name) as archive:
            yield archive


@contextmanager
def _archive(name: str) -> Iterator[Subject]:
    from builder.forensics.subjects.archive import ArchiveSubject, PipedArchiveSubject

    if name != "-":
        yield ArchiveSubject(Path(name))
        return
    piped = PipedArchiveSubject(sys.stdin.buffer, "standard input")
    try:
        yield piped
    finally:
        piped.close()


def _names_an_image(text: str) -> bool:
    from builder.image.digests import DigestInvalid
    from builder.registry.errors import ReferenceInvalid
    from builder.registry.reference import parse_reference

    try:
        reference = parse_reference(text)
    except (ReferenceInvalid, DigestInvalid):
        return False
    return reference.tag is not None or reference.digest is not None
