"""Recipes with parameters and in repositories: built, planned, locked and checked; what is refused before that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli import exits
from builder.cli.main import main
from builder.pipeline.evidence import Plan
from builder.planning.lockfile import parse_lock
from builder.store.schema import Build
from tests.unit.cli_commands import playing
from tests.unit.cli_server import WEB_RECIPE, Api, Worker, running_api
from tests.unit.evidence import lock
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


def place(server: GitServer) -> list[str]:
    return ["--repository", f"{server.url}/acme/images", "--ref", "main", "--path", "images/mine.yaml"]


def test_a_plan_is_of_the_repositorys_recipe_as_it_is_filled_in(api: Api, server: GitServer, capsys: Output) -> None:
    planned: list[Build] = []

    def part(worker: Worker) -> None:
        planned.append(worker.plan(Plan(hermetic=True, base="trixie", files=("/etc/motd",))))

    with playing(api, "mine", part):
        assert main(["recipe", "plan", *place(server), "-p", "message=x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["/etc/motd"]
    assert (planned[0].options["parameters"], planned[0].purpose) == ({"message": "x"}, "plan")
    assert planned[0].options["source"]["path"] == "images/mine.yaml"


def test_a_lock_of_a_repositorys_recipe_is_printed_or_written(
    api: Api, server: GitServer, tmp_path: Path, capsys: Output
) -> None:
    made = lock()
    with playing(api, "mine", lambda worker: worker.lock(made)):
        assert main(["recipe", "lock", *place(server), "-p", "message=x"]) == 0
    assert parse_lock(capsys.readouterr().out.encode()) == made
    with playing(api, "mine", lambda worker: worker.lock(made)):
        assert main(["recipe", "lock", *place(server), "-o", "mine.lock.json"]) == 0
    assert parse_lock((tmp_path / "mine.lock.json").read_bytes()) == made


def test_a_recipe_is_checked_as_it_is_filled_in(api: Api, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "mine.yaml").write_text(OPEN)
    (tmp_path / "motd").write_text("welcome\n")
    assert main(["recipe", "validate", "mine.yaml"]) == 0
    before = capsys.readouterr().out
    assert main(["recipe", "validate", "mine.yaml", "-p", "message=x"]) == 0
    assert capsys.readouterr().out not in ("", before)  # another digest
    assert main(["recipe", "validate", "mine.yaml", "-p", "message=$(id)", "-p", "mesage=x"]) == exits.FAILED
    told = capsys.readouterr().err
    assert "mine.yaml: parameters.message: " in told
    assert "mine.yaml: parameters.mesage: " in told


@pytest.mark.parametrize("command", [["build"], ["recipe", "plan"], ["recipe", "lock"]])
@pytest.mark.parametrize(
    "arguments",
    [
        [], ["web", "--repository", "https://a.example/x", "--path", "a.yaml"], ["--repository", "https://a.example/x"],
        ["--path", "a.yaml"], ["web", "-p", "message"], ["web", "-p", "=x"], ["web", "-p", "a=1", "-p", "a=2"],
        ["web", "--ref", "main"], ["web.lock.json"],
    ],
)  # fmt: skip
def test_what_says_too_little_or_too_much_is_a_mistake_of_usage(
    api: Api, command: list[str], arguments: list[str]
) -> None:
    assert main([*command, *arguments]) == exits.USAGE


@pytest.mark.parametrize("option", ["--check", "--diff", "--keep"])
def test_a_lock_in_a_repository_is_not_compared_with(api: Api, server: GitServer, option: str) -> None:
    assert main(["recipe", "lock", *place(server), option]) == exits.USAGE
