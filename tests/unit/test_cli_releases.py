"""`goldsmith releases`: what an auditor asks, as a table, as JSON, and whole as a file."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.store.database import Database
from tests.unit.cli_server import Api, running_api
from tests.unit.releases import DAY, MARCH, NEWER, OPENSSL, released

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GOLDSMITH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture(scope="module")
def store(running: Api) -> Database:
    return running.database


@pytest.fixture(scope="module")
def two(store: Database) -> tuple[str, str]:
    return (
        released(store, "a", OPENSSL, at=MARCH, requester="ci"),
        released(store, "b", NEWER, at=MARCH + DAY, recipe="python", requester="ann"),
    )


@pytest.fixture(autouse=True)
def api(place: None, running: Api, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)


def told(capsys: Output, *arguments: str) -> list[str]:
    capsys.readouterr()
    assert main(["releases", *arguments, "--json"]) == 0
    return [one["build"] for one in json.loads(capsys.readouterr().out)["releases"]]


def test_questions_reach_the_service(capsys: Output, two: tuple[str, str]) -> None:
    assert told(capsys) == [two[1], two[0]]
    assert told(capsys, "--package", "openssl@3.0.15") == [two[0]]
    assert told(capsys, "--requester", "ann", "--since", "2026-03-01", "--until", "2026-04-01") == [two[1]]
    assert told(capsys, "--until", "2026-03-01T12:00:00+01:00") == [two[0]]
    assert told(capsys, "--recipe", "python", "--finding", "CVE-2026-1") == []


def test_pages_are_joined_up_to_the_limit(
    capsys: Output, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(capsys, "--limit", "1") == [two[1]]


def test_a_person_reads_a_table(capsys: Output) -> None:
    assert main(["releases"]) == 0
    told = capsys.readouterr().out
    assert "registry.example:5000/golden/python@sha256:bbbb" in told
    assert "2026-03-02 00:00" in told
    assert main(["releases", "--package", "nothing"]) == 0
    assert capsys.readouterr().out == "there are no such releases\n"


def test_everything_goes_into_a_file(capsys: Output, tmp_path: Path, two: tuple[str, str]) -> None:
    assert main(["releases", "--export", "csv", "-o", str(tmp_path / "all.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "all.csv").open(newline="")))
    assert [row["build"] for row in rows] == [two[1], two[0]]
    assert main(["releases", "--export", "jsonl"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "ends", "said"),
    [
        (["--since", "yesterday"], 1, "--since: 'yesterday' is no time"),
        (["--until", "2026-03-01T12:00"], 1, "has no time zone"),
        (["--export", "xml"], 64, "is none of jsonl, csv"),
        (["-o", "x"], 64, "say in which form"),
        (["--digest", "web"], 1, "query.digest"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_way_out(
    capsys: Output, arguments: list[str], ends: int, said: str
) -> None:
    assert main(["releases", *arguments]) == ends
    assert said in capsys.readouterr().err
