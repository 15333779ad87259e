"""Secrets planted in a recipe's files stop the release; their values are in nothing that is told, logged or kept."""

from __future__ import annotations

import json
import secrets
import sqlite3
import string
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from builder.image.inventory import open_inventory
from tests.end_to_end.world import Goldsmith, Released

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
CLOUD_ID = "AKIA" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16))
CLOUD_KEY = "".join(secrets.choice(string.ascii_letters + string.digits + "/+") for _ in range(40))
PRIVATE_KEY = (
    rsa.generate_private_key(65537, 2048)
    .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    .decode()
)
FILES = {
    "/opt/app/server.pem": PRIVATE_KEY,
    "/opt/app/cloud.ini": f"aws_access_key_id = {CLOUD_ID}\naws_secret_access_key = {CLOUD_KEY}\n",
    "/opt/app/token": f"github_token={TOKEN}\n",
}
# Of the key any line of its body gives it away.
VALUES = [TOKEN, CLOUD_ID, CLOUD_KEY, *PRIVATE_KEY.splitlines()[1:-1]]


def given_away(text: str | bytes) -> list[str]:
    """The values that somebody who reads this, as text or as JSON, learns."""
    content = text.encode() if isinstance(text, str) else text
    return [one for one in VALUES if one.encode() in content or json.dumps(one)[1:-1].encode() in content]


@pytest.fixture(scope="module")
def refused(goldsmith: Goldsmith, web: Released) -> dict[str, Any]:
    files = [{"path": path, "content": content} for path, content in FILES.items()]
    build = goldsmith.finished(goldsmith.submit(goldsmith.recipe("secret", files=files)))
    goldsmith.wait_until_clean()
    return build


def test_each_of_them_stops_the_release_and_is_told_by_its_place(goldsmith: Goldsmith, refused: dict[str, Any]) -> None:
    assert refused["problem"]["type"] == "/problems/gate-failed"
    told = [error["message"] for error in refused["problem"]["errors"]]
    for path in FILES:
        assert any(path in one for one in told), told
    assert all(error["hint"] for error in refused["problem"]["errors"])
    assert goldsmith.tags("test/secret") == []
    assert goldsmith.manifests("test/secret") == set()


def test_no_answer_of_the_api_and_no_command_gives_one_away(goldsmith: Goldsmith, refused: dict[str, Any]) -> None:
    build_id, api = refused["id"], goldsmith.api
    answers = [
        api.get(path, params=params, headers=headers).raise_for_status().text
        for path, params, headers in (
            (f"/v1/builds/{build_id}", {}, {}),
            ("/v1/builds", {"recipe": "secret"}, {}),
            (f"/v1/builds/{build_id}/lock", {}, {}),
            (f"/v1/builds/{build_id}/logs", {}, {}),
            (f"/v1/builds/{build_id}/logs", {}, {"Accept": "application/json"}),
            (f"/v1/builds/{build_id}/logs", {}, {"Accept": "text/event-stream"}),
            *((f"/v1/builds/{build_id}/verdict", {"format": form}, {}) for form in ("json", "markdown", "html")),
            ("/v1/findings", {"limit": "500"}, {}),
        )
    ]
    answers += [goldsmith.run(*command, check=False).stdout for command in
                (("verdict", build_id), ("show", build_id), ("logs", build_id))]  # fmt: skip
    assert sum("/opt/app/server.pem" in answer for answer in answers) >= 8, "they do speak of it"
    assert [given_away(answer) for answer in answers] == [[]] * len(answers)


def rows(database: Path) -> Iterator[tuple[str, bytes]]:
    """Every value that the database holds, but for recipes as they were sent: builds are made from these."""
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f"SELECT * FROM {table}")
            columns = [column for column, *_ in cursor.description]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    if (table, column) != ("builds", "recipe") and value is not None:
                        yield f"{table}.{column}", value if isinstance(value, bytes) else str(value).encode()


def test_nothing_that_is_kept_gives_one_away(goldsmith: Goldsmith, refused: dict[str, Any]) -> None:
    database = goldsmith.stack.state / "state/goldsmith.db"
    with closing(sqlite3.connect(database)) as connection:
        ((recipe,),) = connection.execute("SELECT recipe FROM builds WHERE id = ?", (refused["id"],)).fetchall()
    assert given_away(recipe) == VALUES, "what is looked for would be found"
    assert {name: given_away(value) for name, value in rows(database) if given_away(value)} == {}


@pytest.mark.parametrize("kind", ["facts", "scan", "scan-sarif", "sbom-cyclonedx", "sbom-spdx", "inventory"])
def test_what_is_attached_tells_of_the_build_without_the_value(
    goldsmith: Goldsmith, refused: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    with closing(sqlite3.connect(goldsmith.stack.state / "state/goldsmith.db")) as connection:
        ((content,),) = connection.execute(
            "SELECT content FROM blobs JOIN attachments ON blobs.digest = attachments.blob_digest "
            "WHERE build_id = ? AND kind = ?",
            (refused["id"], kind),
        ).fetchall()
    if kind == "inventory":
        (tmp_path / "inventory").write_bytes(content)
        with open_inventory(tmp_path / "inventory") as (_, records):
            content = "\n".join(map(repr, records)).encode()
    assert not given_away(content)
    if kind in ("facts", "scan", "scan-sarif"):
        assert b"opt/app/server.pem" in content
        assert b"opt/app/cloud.ini" in content


def test_no_log_of_any_process_gives_one_away(goldsmith: Goldsmith, refused: dict[str, Any]) -> None:
    logs = list((goldsmith.stack.state / "log").glob("*.log"))
    assert any(refused["id"] in log.read_text("utf-8", "replace") for log in logs)
    assert {log.name: given_away(log.read_bytes()) for log in logs if given_away(log.read_bytes())} == {}
