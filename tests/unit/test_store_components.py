"""Releases of earlier versions are found as those of today are: what they have is read when the schema grows."""

from __future__ import annotations

import json
import time

from sqlalchemy import text

from builder.store import components, provenance
from builder.store.components import PackageWanted
from builder.store.database import Database
from builder.store.provenance import ReleasesWanted
from tests.unit.evidence import digest
from tests.unit.releases import LIBSSL, OPENSSL
from tests.unit.test_store_schema import connected

pytest_plugins = ["tests.unit.databases"]

BUILD = "0" * 26
BOM = json.dumps(
    {
        "components": [
            {"name": "debian", "version": "12"},
            *(
                {"name": one.name, "version": one.version, "purl": one.purl,
                 "properties": [{"name": "aquasecurity:trivy:SrcName", "value": one.source}]}
                for one in (OPENSSL, LIBSSL, OPENSSL)
            ),
        ]
    }
).encode()  # fmt: skip


def test_an_earlier_release_is_indexed_from_what_was_kept(empty_url: str) -> None:
    database = Database(empty_url)
    database.migrate("0003")
    with connected(empty_url) as connection:
        connection.execute(
            text(
                "INSERT INTO builds (id, state, recipe_name, recipe_digest, recipe, origin, requester, attempt, token,"
                " purpose, cancel_requested, created_at, updated_at, evidence)"
                f" VALUES ('{BUILD}', 'released', 'web', 'd', '{{}}', 'request', 'ann', 1, 0, 'release', false,"
                " 1, 1, '{}')"
            )
        )
        connection.execute(text("INSERT INTO blobs VALUES (:digest, :content)"), {"digest": "b", "content": BOM})
        connection.execute(
            text(
                "INSERT INTO attachments (build_id, kind, media_type, blob_digest)"
                f" VALUES ('{BUILD}', 'sbom-cyclonedx', 'x', 'b')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO releases (build_id, digest, recipe_name, recipe_digest, registry_host, repository, tags,"
                f" released_at) VALUES ('{BUILD}', '{digest('a')}', 'web', 'd', 'r', 'golden/web', '[]', :now)"
            ),
            {"now": time.time()},
        )
        connection.execute(
            text(
                "INSERT INTO records (build_id, image_digest, digest, body, recorded_at)"
                f" VALUES ('{BUILD}', '{digest('a')}', 'd', :body, 1)"
            ),
            {"body": b"{}"},
        )
    database.migrate("0004")
    with database.read() as session:
        found = provenance.page(
            session,
            ReleasesWanted(requester="ann", package=PackageWanted("openssl", "3.0.15")),
            after=None,
            limit=10,
        )
        assert [one.release.digest for one in found] == [digest("a")]
        assert set(session.scalars(components.images_with(PackageWanted("libssl3")))) == {digest("a")}
    with database.write() as session:
        components.index_image(session, digest("b"), [LIBSSL])  # shares what the migration has made
    with database.read() as session:
        assert len(list(session.scalars(components.images_with(PackageWanted("libssl3"))))) == 2
    database.close()
