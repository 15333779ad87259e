"""`goldsmith build` of a recipe with parameters and of one in a repository, and what it refuses before it asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli import exits
from builder.cli.main import main
from tests.unit.cli_server import WEB_RECIPE, Api, running_api
from tests.unit.git_server import GitServer, git, git_server

Output = pytest.CaptureFixture[str]
OPEN = WEB_RECIPE.replace("name: web", "name: mine").replace("golden/web", "golden/mine").replace(
    "spec:", "parameters: {message: {default: hello}}\nspec:\n  files: [{path: /etc/motd, source: motd}]\n"
    "  environment: {MESSAGE: '${parameters.message}'}"
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with git_server(tmp_path_factory.mktemp("git")) as found:
        found.repository("acme/images", {"images/mine.yaml": OPEN, "images/motd": "welcome\n"})
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, server: GitServer) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api") / "state", git_hosts=(server.host,), git_private=True) as running:
        yield running


@pytest.fixture
def api(served: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Api:
    monkeypatch.chdir(tmp_path)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


def asked(capsys: Output, *arguments: str) -> dict[str, object]:
    assert main(["build", "--no-wait", "--json", *arguments]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_file_is_sent_as_it_is_written_and_filled_in_by_the_service(api: Api, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "mine.yaml").write_text(OPEN)
    (tmp_path / "motd").write_text("welcome\n")
    made = asked(capsys, "mine.yaml", "-p", "message=good day")
    assert made["parameters"] == {"message": "good day"}
    assert asked(capsys, "mine.yaml")["parameters"] == {"message": "hello"}


def test_a_repository_is_named_and_its_commit_told(api: Api, server: GitServer, capsys: Output) -> None:
    url = f"{server.url}/acme/images"
    made = asked(capsys, "--repository", url, "--ref", "main", "--path", "images/mine.yaml", "-p", "message=x")
    commit = git(server.root / "acme/images", "rev-parse", "HEAD")
    assert made["source"] == {"repository": url, "ref": "main", "commit": commit, "path": "images/mine.yaml"}
    assert made["parameters"] == {"message": "x"}


def test_a_wrong_value_is_told_before_anything_is_sent(api: Api, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "mine.yaml").write_text(OPEN)
    assert main(["build", "mine.yaml", "-p", "message=$(id)"]) == 1
    assert "parameters.message" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["web", "--repository", "https://a.example/x", "--path", "a.yaml"], ["--repository", "https://a.example/x"],
        ["--path", "a.yaml"], ["web", "-p", "message"], ["web", "-p", "=x"], ["web", "-p", "a=1", "-p", "a=2"],
    ],
)  # fmt: skip
def test_what_says_too_little_or_too_much_is_a_mistake_of_usage(api: Api, capsys: Output, arguments: list[str]) -> None:
    assert main(["build", *arguments]) == exits.USAGE
