"""A build that uses a secret is released, and in nothing that anybody is told or that is kept is the value."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.world import Goldsmith, Released

CANARY = f"canary-{secrets.token_hex(16)}"
FORMS = {
    "raw": CANARY.encode(), "base64": base64.b64encode(CANARY.encode())[:40], "hex": CANARY.encode().hex().encode(),
}  # fmt: skip
RECIPE = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: secretive}
spec:
  base: {recipe: debian}
  publish: {repository: test/secretive}
  run:
    - shell: |
        set -x; cat /run/secrets/TOKEN; base64 /run/secrets/TOKEN; echo "$(cat /run/secrets/TOKEN)" >&2
        sha256sum </run/secrets/TOKEN >/srv/used; cp /run/secrets/TOKEN /tmp/copy; rm /tmp/copy
      secrets: [TOKEN]
    - shell: ls -A /run >>/srv/used; env >>/srv/used
  tests:
    - {command: [grep, -c, TOKEN, /srv/used], exitCode: 1, stdout: {contains: "0"}}
"""


@pytest.fixture(scope="module")
def released(goldsmith: Goldsmith, web: Released, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    assert web.digest  # its base is released
    directory = tmp_path_factory.mktemp("build-secrets")
    (directory / "secretive").mkdir()
    secret = directory / "secretive/TOKEN"
    secret.touch(0o600)
    secret.write_text(f"{CANARY}\n")
    recipe = Path(goldsmith.stack.overrides["RECIPES_DIRECTORY"]) / "secretive.yaml"
    recipe.write_text(RECIPE)
    with goldsmith.worker("build", BUILD_SECRETS_DIRECTORY=str(directory)):
        first = goldsmith.release("secretive")
        secret.write_text("another value of the same secret\n")
        answer = goldsmith.api.post("/v1/builds", json={"recipe": "secretive"})
        assert answer.status_code == 202, "a build with another value is not answered by the one before"
        second = goldsmith.finished(answer.json()["id"])
        assert second["state"] == "released"
        assert second["result"]["digest"] != first.digest
    yield first
    recipe.unlink()
    goldsmith.wait_until_clean()


def held(content: bytes) -> list[str]:
    return [name for name, form in FORMS.items() if form in content]


def unpacked(content: bytes) -> bytes:
    """Also what is in a compressed layer."""
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return content


def test_the_step_had_it(goldsmith: Goldsmith, released: Released) -> None:
    log = goldsmith.log(released.build["id"])
    assert log.count("[secret]") >= 4, log
    assert "with the secrets TOKEN" in log


def test_the_record_names_it(goldsmith: Goldsmith, released: Released) -> None:
    statement = json.loads(goldsmith.run("provenance", released.digest, "--statement").stdout)
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["recipe"]["spec"]["run"][0]["secrets"] == ["TOKEN"]
    assert definition["internalParameters"]["hermetic"] is False
    assert not held(json.dumps(statement).encode())


def test_no_answer_and_no_command_has_its_value(goldsmith: Goldsmith, released: Released) -> None:
    build, digest = released.build["id"], released.digest
    paths = [f"/v1/builds/{build}{what}" for what in ("", "/logs", "/lock", "/verdict")]
    paths += ["/v1/builds", f"/v1/images/{digest}/attestations", f"/v1/images/{digest}/bundle"]
    answers = [goldsmith.api.get(path).raise_for_status().content for path in paths]
    answers += [goldsmith.run(*command).stdout.encode() for command in (("show", build), ("logs", build))]
    assert [held(unpacked(answer)) for answer in answers] == [[]] * len(answers)


@pytest.mark.parametrize("sink", ["state", "registry", "log", "redis", "sigstore"])
def test_nothing_that_is_kept_has_its_value(goldsmith: Goldsmith, released: Released, sink: str) -> None:
    files = [path for path in (goldsmith.stack.state / sink).rglob("*") if path.is_file()]
    assert files
    found = {str(path): held(unpacked(path.read_bytes())) for path in files}
    assert {name: forms for name, forms in found.items() if forms} == {}


def test_a_recipe_that_a_request_brings_is_given_none(goldsmith: Goldsmith) -> None:
    wanted = goldsmith.recipe("wants-secrets", run=[{"shell": "cat /run/secrets/TOKEN", "secrets": ["TOKEN"]}])
    answer = goldsmith.api.post("/v1/builds", json={"recipe": wanted})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/secrets-not-allowed"
