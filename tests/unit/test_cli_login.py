"""`goldsmith login`, `logout`, `whoami` and `retry`; completion."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.store import builds
from builder.store.states import State
from tests.unit.cli_commands import playing
from tests.unit.cli_server import WEB_RECIPE, Api, running_api

Output = pytest.CaptureFixture[str]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path / "api", [("web", WEB_RECIPE)]) as found:
        yield found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GOLDSMITH_URL", "GOLDSMITH_API_KEY", "GOLDSMITH_CLIENT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def logged_in(api: Api, monkeypatch: pytest.MonkeyPatch, key: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{key}\n"))
    return main(["login", api.url, "--key-stdin"])


def test_without_a_terminal_nothing_is_asked_for(api: Api, home: Path) -> None:
    line = [sys.executable, "-m", "builder.cli", "login", api.url]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True,
                          check=False)  # fmt: skip
    assert done.returncode == 64
    assert done.stderr.splitlines()[-1].startswith("goldsmith: Invalid value for --key-stdin: there is no terminal")
    assert "Warning" not in done.stderr


def test_a_key_is_tried_and_kept_where_only_its_owner_reads_it(
    api: Api, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    assert logged_in(api, monkeypatch, api.key) == 0
    told = capsys.readouterr()
    path = home / ".config/goldsmith/client.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {"url": api.url, "key": api.key}
    assert "may admin" in told.out
    assert api.key not in told.out + told.err
    assert main(["builds"]) == 0
    capsys.readouterr()
    assert main(["whoami", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scopes"] == ["admin"]
    assert main(["logout"]) == 0
    assert "key" not in json.loads(path.read_text())
    assert main(["whoami"]) == 1


def test_a_key_that_is_not_known_is_not_kept(
    api: Api, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    assert logged_in(api, monkeypatch, "gs_wrong") == 1
    assert not (home / ".config/goldsmith/client.json").exists()
    assert "not known, or was revoked" in capsys.readouterr().err


def test_a_service_that_is_not_there_is_told(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("gs_x\n"))
    assert main(["login", "http://127.0.0.1:9", "--key-stdin"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_whom_to_trust_of_another_service_is_not_kept(api: Api, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / ".config/goldsmith/client.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"url": "https://other.example", "identity": "x", "issuer": "y"}))
    path.chmod(0o600)
    assert logged_in(api, monkeypatch, api.key) == 0
    assert set(json.loads(path.read_text())) == {"url", "key"}


def test_what_was_cancelled_is_asked_for_again(api: Api, capsys: Output) -> None:
    told = ["--url", api.url, "--key", api.key]
    assert main([*told, "build", "web", "--no-wait", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["id"]
    assert main([*told, "retry", first]) == 1
    assert "only one that failed or was cancelled" in capsys.readouterr().err
    assert main([*told, "cancel", first]) == 0
    capsys.readouterr()
    assert main([*told, "retry", first, "--no-wait", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)["id"]
    with api.database.read() as session:
        assert builds.get(session, second).retry_of == first
        assert builds.get(session, second).state == State.QUEUED


def test_a_retry_is_followed_to_its_end_as_a_build_is(api: Api, capsys: Output) -> None:
    told = ["--url", api.url, "--key", api.key]
    assert main([*told, "build", "web", "--no-wait", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["id"]
    assert main([*told, "cancel", first]) == 0
    with playing(api, "web", lambda worker: worker.release()):
        assert main([*told, "retry", first]) == 0
    assert "\nreleased " in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_taught_the_commands(shell: str) -> None:
    words = {"COMP_WORDS": "goldsmith ver", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "goldsmith ver"}
    env = {**os.environ, **words, "_GOLDSMITH_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    code = "import sys; sys.argv = ['goldsmith']; from builder.cli.main import app; app(prog_name='goldsmith')"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "verify" in done.stdout, done.stderr
    assert "verdict" in done.stdout
    assert done.stderr == ""
