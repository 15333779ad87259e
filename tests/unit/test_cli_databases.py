"""`goldsmith database`: what an operator sees of the scanner's database, brings, and takes elsewhere."""

import json
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.scanning.sample.build import build_sample

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOLDSMITH_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("GOLDSMITH_TRIVY_DATABASE", str(tmp_path / "offer"))
    return tmp_path


def offer(directory: Path, age: timedelta = timedelta(hours=1)) -> None:
    made = datetime.now(UTC) - age
    build_sample(made, made + timedelta(days=1)).write(directory)


def told(capsys: Output, *arguments: str, exit_code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert main(["database", *arguments, "--json"]) == exit_code
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_the_status_of_nothing_is_no_with_the_reason(capsys: Output) -> None:
    status = told(capsys, "status", exit_code=2)
    assert (status["usable"], status["database"]) == (False, None)
    assert status["problem"]["type"] == "/problems/database-missing"  # type: ignore[index]


def test_an_update_fetches_now_and_the_status_names_it(place: Path, capsys: Output) -> None:
    offer(place / "offer", timedelta(hours=3))
    first = told(capsys, "update")
    offer(place / "offer", timedelta(hours=2))
    second = told(capsys, "update")
    assert str(first["updatedAt"]) < str(second["updatedAt"])
    status = told(capsys, "status")
    assert status["usable"] is True
    assert status["database"] == second
    assert main(["database", "status"]) == 0
    shown = capsys.readouterr().out
    assert "2 hours ago" in shown
    assert "NO: it is the sample" in shown


def test_an_update_that_fails_says_so_and_leaves_the_old_one(place: Path, capsys: Output) -> None:
    offer(place / "offer")
    kept = told(capsys, "update")
    (place / "offer" / "trivy.db").write_bytes(b"x" * 9000)
    assert main(["database", "update"]) == 1
    assert "not a bbolt file" in capsys.readouterr().err
    assert told(capsys, "status")["database"] == kept


def test_a_database_in_place_that_grew_old_is_shown_and_the_answer_is_no(
    place: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(place / "offer", timedelta(hours=30))
    told(capsys, "update")
    monkeypatch.setenv("GOLDSMITH_TRIVY_DATABASE_HOURS", "24")
    status = told(capsys, "status", exit_code=2)
    assert status["database"]["stale"] is True  # type: ignore[index]
    assert status["problem"]["type"] == "/problems/database-stale"  # type: ignore[index]


def test_a_scanner_that_is_not_allowed_is_no_too(place: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(place / "offer")
    told(capsys, "update")
    monkeypatch.setenv("GOLDSMITH_TRIVY_SHA256", "0" * 64)
    status = told(capsys, "status", exit_code=2)
    assert (status["scanner"], status["database"] is None) == (None, False)
    assert status["problem"]["type"] == "/problems/scanner-not-allowed"  # type: ignore[index]


def test_what_is_written_to_a_file_can_be_imported_elsewhere(
    place: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(place / "offer")
    fetched = told(capsys, "update")
    mirrored = told(capsys, "mirror", "--output", "db.tar.gz")
    assert mirrored["database"] == fetched
    with tarfile.open(place / "db.tar.gz") as tar:
        assert tar.getnames() == ["trivy.db", "metadata.json"]
    monkeypatch.setenv("GOLDSMITH_STATE_DIRECTORY", str(place / "elsewhere"))
    monkeypatch.setenv("GOLDSMITH_TRIVY_DATABASE", "imported")
    assert main(["database", "update"]) == 1
    assert "goldsmith database import FILE" in capsys.readouterr().err
    imported = told(capsys, "import", "db.tar.gz")
    assert (imported["digest"], imported["source"]) == (fetched["digest"], "imported")
    assert told(capsys, "status")["usable"] is True


def test_an_import_that_no_worker_would_use_says_which_setting_is_needed(place: Path, capsys: Output) -> None:
    offer(place / "brought")
    assert main(["database", "import", "brought"]) == 0
    assert "set GOLDSMITH_TRIVY_DATABASE=imported" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["import", "old"], ["mirror", "--from", "old", "--output", "db.tar.gz"]])
def test_an_old_one_goes_nowhere_unless_that_is_wanted(place: Path, capsys: Output, command: list[str]) -> None:
    offer(place / "old", timedelta(days=5))
    assert main(["database", *command]) == 1
    assert "120 hours old" in capsys.readouterr().err
    assert not (place / "db.tar.gz").exists()
    assert main(["database", *command, "--allow-stale"]) == 0


def test_the_same_database_gives_the_same_file(place: Path, capsys: Output) -> None:
    offer(place / "offer")
    for name in ("a.tar.gz", "b.tar.gz"):
        told(capsys, "mirror", "--from", "offer", "--output", name)
    assert (place / "a.tar.gz").read_bytes() == (place / "b.tar.gz").read_bytes()
    assert list((place / "state" / "trivy").glob("mirror-*")) == []


@pytest.mark.parametrize("arguments", [[], ["--push", "127.0.0.1:1/db", "--output", "x.tar.gz"]])
def test_a_mirror_needs_one_place(arguments: list[str]) -> None:
    assert main(["database", "mirror", *arguments]) == 64
