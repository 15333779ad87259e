"""Evidence from files alone: in an incident the server and the registry may be what is suspected."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.evidence import InventoryMissing
from builder.errors import Rejected
from builder.verification.evidence import Bundles
from builder.verification.quoted import BundleUnreadable, decoded_statement, read_bundle

if TYPE_CHECKING:
    from builder.image.layout import Image


class EvidenceUnreadable(Rejected):
    slug = "evidence-unreadable"
    title = "A file with evidence cannot be used"


@dataclass(frozen=True)
class Files:
    """The files of an offline comparison, as they were named."""

    bundles: tuple[Path, ...]
    inventory: Path | None
    manifest: Path | None = None
    config: Path | None = None


@dataclass(frozen=True)
class FromFiles:
    """Bundles, inventory, and manifest and config of an image where they are at hand. None of it is believed yet."""

    files: Files
    image: str
    digest: str
    bundle_contents: tuple[bytes, ...]

    @property
    def manifest_from(self) -> str | None:
        return str(self.files.manifest) if self.files.manifest is not None else None

    def bundles(self) -> Bundles:
        return Bundles(self.bundle_contents)

    def ledger(self) -> None:
        """It is not among the files that can be named."""

    def documents(self) -> dict[str, str]:
        return {}

    def inventory(self, digest: str, destination: Path) -> None:
        from builder.image.digests import digest_of_file

        if self.files.inventory is None:
            raise InventoryMissing("no inventory was given", hint="name its file with --inventory")
        try:
            # Copied first, so that what was hashed is what is read.
            shutil.copyfile(self.files.inventory, destination)
        except OSError as error:
            raise EvidenceUnreadable(f"{self.files.inventory} cannot be read: {error.strerror}") from error
        found = digest_of_file(destination)
        if found != digest:
            raise InventoryMissing(
                f"{self.files.inventory} is {found}; signed is {digest}", hint="it was altered, or is another image's"
            )

    def scans(self) -> tuple[bytes, ...]:
        return ()

    def config(self) -> bytes | None:
        from builder.image.digests import digest_of
        from builder.image.documents import parse_manifest

        if self.files.config is None or self.files.manifest is None:
            return None
        named = parse_manifest(_read(self.files.manifest)).config.digest
        content = _read(self.files.config)
        if digest_of(content) != named:
            raise EvidenceUnreadable(f"{self.files.config} is {digest_of(content)}; the manifest names {named}")
        return content

    def layout(self, directory: Path) -> Image | None:
        del directory
        return None


def evidence_in_files(files: Files, digest: str | None) -> FromFiles:
    """Of the image with this digest, or the manifest's, or the one that the bundles say they speak of.

    Raises EvidenceUnreadable.
    """
    from builder.image.digests import digest_of

    contents = tuple(_read(file) for file in files.bundles)
    if files.manifest is not None:
        found = digest_of(_read(files.manifest))
        if digest is not None and found != digest:
            raise EvidenceUnreadable(f"{files.manifest} is {found}, not {digest}")
        digest = found
    digest = digest or _spoken_of(contents)
    return FromFiles(files, digest, digest, contents)


def _spoken_of(bundles: Sequence[bytes]) -> str:
    """What the bundles say they are about, if they agree: whether it is signed shows when they are verified."""
    found = set()
    for content in bundles:
        try:
            subjects = decoded_statement(read_bundle(content))["subject"]
            found |= {f"sha256:{subject['digest']['sha256']}" for subject in subjects}
        except (BundleUnreadable, KeyError, TypeError):
            continue
    if len(found) != 1:
        raise EvidenceUnreadable(
            f"the bundles speak of {len(found)} images" if found else "no bundle says which image it is about",
            hint="name the golden image's digest before the subject, or its manifest with --manifest",
        )
    return found.pop()


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise EvidenceUnreadable(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise EvidenceUnreadable(f"{file} is larger than {_MOST_BYTES} bytes")
    return content


_MOST_BYTES = 64 * 1024 * 1024
