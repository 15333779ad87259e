"""A job of a CI system builds by a token of its own: the shipped templates, run as GitHub's and GitLab's runners do."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from scripts.stack.services import ROOT
from tests.end_to_end.world import Goldsmith, Released
from tests.unit.git_server import GitServer
from tests.unit.git_server import git as run_git
from tests.unit.oidc_issuer import AUDIENCE, SUBJECT, Issuer, issuers_file, running_issuer

SCRIPT = ROOT / "ci/shell/goldsmith-build.sh"
RULES = [
    {
        "claims": {"repository": "acme/web", "ref": "refs/heads/main"},
        "scopes": ["builds:write", "builds:read"],
        "recipes": ["ci-*"],
    }
]


@pytest.fixture(scope="module")
def issuer(goldsmith: Goldsmith, web: Released, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    """A local issuer that the API trusts while this module's tests run."""
    stack = goldsmith.stack
    with running_issuer() as found:
        path = tmp_path_factory.mktemp("issuers") / "issuers.yaml"
        path.write_text(issuers_file(found.url, rules=RULES))
        before = dict(stack.overrides)
        stack.process("api").stop()
        stack.overrides["ISSUERS"] = str(path)
        try:
            stack.start("api")
            yield found
        finally:
            stack.process("api").stop()
            stack.overrides = before
            stack.start("api")


def recipe_file(goldsmith: Goldsmith, directory: Path, name: str, **spec: Any) -> Path:
    path = directory / f"{name}.yaml"
    path.write_text(json.dumps(goldsmith.recipe(name, **spec)))
    return path


def job(goldsmith: Goldsmith, token: str, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script, in an environment with nothing but what a runner gives it."""
    env = {
        "PATH": os.environ["PATH"],
        "GOLDSMITH_URL": goldsmith.stack.api_url,
        "GOLDSMITH_API_KEY": token,
        **variables,
    }
    return subprocess.run(
        ["bash", SCRIPT, *arguments], env=env, capture_output=True, text=True, check=False, timeout=240
    )


def test_a_job_builds_streams_the_log_and_hands_on_the_digest(
    goldsmith: Goldsmith, issuer: Issuer, tmp_path: Path
) -> None:
    token, output = issuer.token(), tmp_path / "output"
    file = recipe_file(goldsmith, tmp_path, "ci-shell")
    done = job(goldsmith, token, file, GOLDSMITH_RUN="run-1", GOLDSMITH_OUTPUT=str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    told = dict(line.split("=", 1) for line in output.read_text().splitlines())
    assert told["reference"].endswith(f"/test/ci-shell@{told['digest']}")
    lines = done.stdout.splitlines()
    build = lines[0].split()[2]
    # Every line of the log, once and in order.
    logged = goldsmith.api.get(f"/v1/builds/{build}/logs", headers={"Accept": "application/json"}).json()["lines"]
    assert lines[1:-1] == [line for one in logged for line in f"{one['step']}: {one['text']}".splitlines()]
    assert token not in done.stdout + done.stderr
    provenance = json.loads(goldsmith.run("provenance", told["digest"], "--statement").stdout)
    identity = provenance["predicate"]["buildDefinition"]["internalParameters"]["requesterIdentity"]
    assert (identity["issuer"], identity["subject"]) == (issuer.url, SUBJECT)
    assert identity["claims"]["sha"] == "5c" * 20
    again = job(goldsmith, issuer.token(), file, GOLDSMITH_RUN="run-1")
    assert again.stdout.splitlines()[0] == lines[0]  # the same run asks for the same build


def test_a_build_that_fails_fails_the_job_with_its_reason(goldsmith: Goldsmith, issuer: Issuer, tmp_path: Path) -> None:
    file = recipe_file(goldsmith, tmp_path, "ci-failing", run=[{"shell": "exit 7"}])
    done = job(goldsmith, issuer.token(), file, GITHUB_RUN_ID="7", GITHUB_JOB="image")
    assert done.returncode == 2, done.stdout + done.stderr
    assert " is failed: " in done.stderr
    assert "7" in done.stderr.splitlines()[-1]


def test_each_mistake_is_told_in_a_line(goldsmith: Goldsmith, issuer: Issuer, tmp_path: Path) -> None:
    file = recipe_file(goldsmith, tmp_path, "ci-x")
    for done, code, why in (
        (job(goldsmith, issuer.token(), "web"), 1, "may build ci-*, and web is none of them"),
        (job(goldsmith, issuer.token(ref="refs/heads/x"), file), 1, "no rule of the issuer 'ci' matches"),
        (job(goldsmith, issuer.token(aud="x"), file), 1, "another audience"),
        (job(goldsmith, "gs_wrong", file), 1, "not known, or was revoked"),
        (job(goldsmith, "", file), 1, "GOLDSMITH_API_KEY is not set"),
        (job(goldsmith, "x", file, GOLDSMITH_URL=""), 1, "GOLDSMITH_URL is not set"),
        (job(goldsmith, "x", file, GOLDSMITH_URL=issuer.url), 1, "is there a Goldsmith API at this address?"),
        (job(goldsmith, issuer.token(), tmp_path / "missing.yaml"), 1, "cannot be read"),
        (job(goldsmith, issuer.token()), 64, "usage: goldsmith-build.sh"),
        (job(goldsmith, "x", "web", GOLDSMITH_PATH="web.yaml"), 64, "one of the two"),
        (job(goldsmith, "x", GOLDSMITH_REPOSITORY="https://git.example/x"), 64, "GOLDSMITH_PATH is not set"),
        (job(goldsmith, "x", "web", GOLDSMITH_PARAMETERS="port=1\nport"), 64, "each line is NAME=VALUE"),
        (job(goldsmith, "x", "web", GOLDSMITH_PARAMETERS="port=1\nport=2"), 64, "each name comes once"),
        (job(goldsmith, "x", file, GOLDSMITH_PARAMETERS="port=1"), 64, "`goldsmith build FILE -p NAME=VALUE`"),
    ):
        assert done.returncode == code, done.stdout + done.stderr
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def token_service(issuer: Issuer) -> Iterator[str]:
    """Where a job on GitHub asks for its token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            allowed = self.headers["Authorization"] == "Bearer the-jobs-own" and asked["api-version"] == ["2.0"]
            content = json.dumps({"value": issuer.token(aud=asked["audience"][0])}).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/token?api-version=2.0"
    server.shutdown()
    server.server_close()


def test_the_action_for_github_asks_for_a_token_and_builds_what_a_commit_has(
    goldsmith: Goldsmith, issuer: Issuer, token_service: str, git: GitServer, tmp_path: Path
) -> None:
    """Its one step, run with what the runner puts in place of the expressions."""
    recipe = goldsmith.recipe("ci-github", environment={"COLOUR": "${parameters.colour}"})
    recipe["parameters"] = {"colour": {"default": "red"}, "size": {"type": "integer", "default": 1}}
    repository = git.repository("ci/images", {"images/ci.yaml": json.dumps(recipe)})
    commit = run_git(repository, "rev-parse", "HEAD")
    action = yaml.safe_load((ROOT / "ci/github/action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    (step,) = action["runs"]["steps"]
    told = {
        "${{ inputs.url }}": goldsmith.stack.api_url,
        "${{ inputs.audience }}": AUDIENCE,
        "${{ inputs.key }}": "",
        "${{ inputs.recipe }}": "",
        "${{ inputs.repository }}": f"{git.url}/ci/images",
        "${{ inputs.ref }}": commit,
        "${{ inputs.path }}": "images/ci.yaml",
        "${{ inputs.parameters }}": "colour=deep blue\nsize=3\n",
        "${{ github.action_path }}": str(ROOT / "ci/github"),
    }
    output = tmp_path / "output"
    env = {
        "PATH": os.environ["PATH"], "GITHUB_OUTPUT": str(output), "GITHUB_RUN_ID": "99", "GITHUB_JOB": "image",
        "ACTIONS_ID_TOKEN_REQUEST_URL": token_service, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "the-jobs-own",
    }  # fmt: skip
    for name, value in step["env"].items():
        for expression, content in told.items():
            value = value.replace(expression, content)
        assert "${{" not in value
        env[name] = value
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]], env=env, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    digest = output.read_text().split()[0].removeprefix("digest=")
    provenance = json.loads(goldsmith.run("provenance", digest, "--statement").stdout)
    asked = provenance["predicate"]["buildDefinition"]["externalParameters"]
    assert (asked["source"]["commit"], asked["source"]["path"]) == (commit, "images/ci.yaml")
    assert asked["parameters"] == {"colour": "deep blue", "size": 3}
    assert {one["value"] for one in action["outputs"].values()} == {
        "${{ steps.build.outputs.digest }}", "${{ steps.build.outputs.reference }}",
    }  # fmt: skip
    del env["ACTIONS_ID_TOKEN_REQUEST_URL"]
    refused = subprocess.run(["bash", "-e", "-c", step["run"]], env=env, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "id-token: write" in refused.stdout


def test_the_template_for_gitlab_builds_and_hands_on_the_digest(
    goldsmith: Goldsmith, issuer: Issuer, tmp_path: Path
) -> None:
    """The lines of its script, run one after the other in one shell, as a runner does."""
    (job_of,) = yaml.safe_load((ROOT / "ci/gitlab/goldsmith.yml").read_text()).values()
    assert job_of["id_tokens"] == {"GOLDSMITH_API_KEY": {"aud": "$GOLDSMITH_URL"}}
    recipe_file(goldsmith, tmp_path, "ci-gitlab")
    env = {
        "PATH": os.environ["PATH"], "GOLDSMITH_URL": goldsmith.stack.api_url, "GOLDSMITH_API_KEY": issuer.token(),
        "GOLDSMITH_RECIPE": "ci-gitlab.yaml", "CI_JOB_ID": "5", **job_of["variables"],
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(job_of["script"])], env=env, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = tmp_path / job_of["artifacts"]["reports"]["dotenv"]
    assert report.read_text().startswith("digest=sha256:")
    assert (tmp_path / "goldsmith-build.sh").read_bytes() == SCRIPT.read_bytes()
