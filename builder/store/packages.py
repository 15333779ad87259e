"""Which packages an archive's signed index has stated, in this installation's sight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import String, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from builder.store.schema import Base

_AT_ONCE = 500


class KnownPackage(Base):
    """A .deb that a signed index of an archive has stated, in this installation's sight."""

    __tablename__ = "known_packages"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[str] = mapped_column(String(200))
    architecture: Mapped[str] = mapped_column(String(200))
    vendor: Mapped[str] = mapped_column(String(31), server_default="debian")


@dataclass(frozen=True)
class Stated:
    """What an index says of one .deb."""

    sha256: str
    name: str
    version: str
    architecture: str
    vendor: str = "debian"


def remember(session: Session, packages: Iterable[Stated]) -> None:
    """Note packages; one that is known already stays as it is."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    # Workers that note the same at once must do so in one order, or PostgreSQL lets them wait for each other.
    rows = [asdict(package) for package in sorted(packages, key=lambda package: package.sha256)]
    for start in range(0, len(rows), _AT_ONCE):
        session.execute(insert(KnownPackage).values(rows[start : start + _AT_ONCE]).on_conflict_do_nothing())


def unknown(session: Session, packages: Iterable[Stated]) -> list[Stated]:
    """Those of which no index has said exactly this."""
    wanted = list(packages)
    known: set[Stated] = set()
    for start in range(0, len(wanted), _AT_ONCE):
        digests = [package.sha256 for package in wanted[start : start + _AT_ONCE]]
        found = session.scalars(select(KnownPackage).where(KnownPackage.sha256.in_(digests)))
        known |= {Stated(row.sha256, row.name, row.version, row.architecture, row.vendor) for row in found}
    return [package for package in wanted if package not in known]
