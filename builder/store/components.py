"""Which packages released images have, from their CycloneDX documents, to be asked the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Select, or_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from builder.store.schema import Component, ImageComponent, KnownImage

_SOURCE = "aquasecurity:trivy:SrcName"
_EPOCH = re.compile(r"^\d+:")
_LONGEST = 255
_LONGEST_PURL = 1000
_KEY = ("name", "version", "source", "purl")
_AT_ONCE = 200


class _Property(BaseModel):
    name: str
    value: str = ""


class _Listed(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    version: str = ""
    purl: str | None = None
    properties: list[_Property] = []


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore")

    components: list[_Listed] = []


@dataclass(frozen=True)
class Contained:
    """A package of an image. `upstream` is its version without a distribution's epoch and revision."""

    name: str
    version: str
    source: str
    purl: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.name, self.version, self.source, self.purl

    @property
    def upstream(self) -> str:
        version = _EPOCH.sub("", self.version)
        return version.rpartition("-")[0] or version if self.purl.startswith("pkg:deb/") else version


@dataclass(frozen=True)
class PackageWanted:
    """By its own or its source package's name; a version is the whole one or upstream's."""

    name: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> PackageWanted:
        """NAME or NAME@VERSION; a name of npm's may begin with an @."""
        name, at, version = text.rpartition("@")
        return cls(name, version or None) if at and name else cls(text)


def contained(cyclonedx: bytes) -> list[Contained]:
    """The packages that a CycloneDX document names by package URL. Raises ValueError for another document."""
    found = []
    for one in _Document.model_validate_json(cyclonedx).components:
        if one.purl is None:
            continue  # an operating system, a file
        source = next((extra.value for extra in one.properties if extra.name == _SOURCE), "") or one.name
        name, version, source = (text.replace("\0", "")[:_LONGEST] for text in (one.name, one.version, source))
        found.append(Contained(name, version, source, one.purl.replace("\0", "")[:_LONGEST_PURL]))
    return found


def index_image(session: Session, digest: str, packages: Iterable[Contained]) -> None:
    """Note an image's packages; one that is noted already stays as it is, for what a digest names never changes."""
    if session.scalar(select(KnownImage.id).where(KnownImage.digest == digest)) is not None:
        return
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    session.execute(insert(KnownImage).values(digest=digest).on_conflict_do_nothing())
    image = session.scalars(select(KnownImage.id).where(KnownImage.digest == digest)).one()
    # In one order, so that two writers never wait for each other.
    unique = sorted(set(packages), key=lambda one: one.key)
    for start in range(0, len(unique), _AT_ONCE):
        some = unique[start : start + _AT_ONCE]
        rows = [dict(zip(_KEY, one.key, strict=True), upstream=one.upstream) for one in some]
        session.execute(insert(Component).on_conflict_do_nothing(), rows)
        columns = tuple_(Component.name, Component.version, Component.source, Component.purl)
        numbers = session.scalars(select(Component.id).where(columns.in_([one.key for one in some])))
        values = [{"component_id": number, "image_id": image} for number in numbers]
        session.execute(insert(ImageComponent).on_conflict_do_nothing(), values)


def images_with(wanted: PackageWanted) -> Select[str]:
    """The digests of images that have a package, as a query."""
    named = or_(Component.name == wanted.name, Component.source == wanted.name)
    query = (
        select(KnownImage.digest)
        .join(ImageComponent, ImageComponent.image_id == KnownImage.id)
        .join(Component, Component.id == ImageComponent.component_id)
        .where(named)
    )
    if wanted.version is None:
        return query
    return query.where(or_(Component.version == wanted.version, Component.upstream == wanted.version))
