"""Releases in a database, with packages, as the release worker writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from builder.store import builds, components
from builder.store.components import Contained
from builder.store.database import Database
from builder.store.schema import Record, Release
from tests.unit.api import submit
from tests.unit.evidence import digest

MARCH = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
DAY = 86400.0
OPENSSL = Contained("openssl", "3.0.15-1~deb12u1", "openssl", "pkg:deb/debian/openssl@3.0.15-1~deb12u1?arch=amd64")
LIBSSL = Contained("libssl3", "1:3.0.15-1~deb12u1", "openssl", "pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64")
NEWER = Contained("openssl", "3.0.16-1", "openssl", "pkg:deb/debian/openssl@3.0.16-1?arch=amd64")
SCOPED = Contained("@angular/core", "19.1.0", "@angular/core", "pkg:npm/%40angular/core@19.1.0")


def released(
    store: Database, image: str, *packages: Contained, at: float = MARCH, recipe: str = "web", requester: str = "ci"
) -> str:
    build_id = submit(store, recipe)
    with store.write() as session:
        build = builds.get(session, build_id)
        build.requester = requester
        session.add(
            Release(
                build_id=build_id, digest=digest(image), recipe_name=recipe, recipe_digest=digest("1"), tags=["1", "x"],
                registry_host="registry.example:5000", repository=f"golden/{recipe}", released_at=at,
                requester=requester,
            )
        )  # fmt: skip
        session.add(Record(build_id=build_id, image_digest=digest(image), digest=digest("e"), body=b"", recorded_at=at))
        session.flush()
        components.index_image(session, digest(image), packages)
    return build_id
