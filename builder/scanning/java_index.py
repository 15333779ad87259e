"""An empty Java index for Trivy.

A single JAR in an image makes Trivy want its Java index (a gigabyte that names JARs by their SHA-1), and without one it
ends the whole scan. With an empty one it names each JAR by what the JAR itself says (pom.properties, the manifest). The
price: a JAR that says nothing of itself is not named, so it is in no bill of materials and has no findings.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

_SCHEMA = """
CREATE TABLE artifacts (id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT);
CREATE TABLE indices (
    artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT, FOREIGN KEY (artifact_id) REFERENCES artifacts (id)
);
"""


def write(directory: Path, now: datetime) -> None:
    """Make `directory` with trivy-java.db and its metadata.json (version 1)."""
    directory.mkdir()
    with closing(sqlite3.connect(directory / "trivy-java.db")) as database:
        database.executescript(_SCHEMA)
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    dates = {"NextUpdate": moment, "UpdatedAt": moment, "DownloadedAt": moment}
    (directory / "metadata.json").write_text(json.dumps({"Version": 1, **dates}))
