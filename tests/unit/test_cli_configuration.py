"""Where the client configuration is found, who may have written it, and where its key may go."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.configuration import (
    Configuration,
    ConfigurationInvalid,
    find_configuration,
    place_to_save,
    save,
)
from builder.cli.invocation import DEFAULT_URL, Connection, Invocation, KeyAndUrlApart
from builder.cli.main import main
from tests.unit.cli_server import Api, running_api

OURS = "http://ours.example"


def write(path: Path, mode: int = 0o600, **content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    path.chmod(mode)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a project directory inside it that is the current one."""
    home = tmp_path / "home"
    (home / "project" / "sub").mkdir(parents=True)
    monkeypatch.chdir(home / "project" / "sub")
    monkeypatch.setenv("HOME", str(home))
    for name in ("GOLDSMITH_URL", "GOLDSMITH_API_KEY", "GOLDSMITH_CLIENT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return home


def found_url(named: Path | None, home: Path) -> str | None:
    found = find_configuration(named, home / "project" / "sub", home)
    return found.configuration.url if found else None


def test_the_named_file_wins_then_the_nearest_above_then_the_users_own(home: Path) -> None:
    assert found_url(None, home) is None
    write(home / ".config/goldsmith/client.json", url="own")
    assert found_url(None, home) == "own"
    write(home / ".goldsmith/client.json", url="above")
    assert found_url(None, home) == "above"
    write(home / "project/.goldsmith/client.json", url="nearer")
    assert found_url(None, home) == "nearer"
    assert found_url(write(home / "named.json", url="named"), home) == "named"


def test_a_named_file_that_is_not_there_is_an_error(home: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be read: No such file"):
        find_configuration(home / "nowhere.json", home, home)


def test_what_is_saved_is_found_again_and_nobody_else_can_read_it(home: Path) -> None:
    (home / "project" / ".goldsmith").mkdir()
    path = place_to_save(None, home / "project" / "sub", home)
    assert path == home / "project/.goldsmith/client.json"
    kept = Configuration.model_validate({"url": OURS, "key": "gs_secret", "trustedRoot": "root.json"})
    save(path, kept)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = find_configuration(None, home / "project" / "sub", home)
    assert found is not None
    assert found.configuration == kept
    assert [one.name for one in path.parent.iterdir()] == ["client.json"]


def test_without_a_directory_of_the_project_it_is_the_users_own(home: Path) -> None:
    assert place_to_save(None, home / "project", home) == home / ".config/goldsmith/client.json"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(home: Path, mode: int) -> None:
    with pytest.raises(ConfigurationInvalid, match="can be written by others"):
        find_configuration(write(home / "c.json", mode, url=OURS), home, home)


def test_a_key_that_others_can_read_is_refused_but_a_url_is_not(home: Path) -> None:
    assert find_configuration(write(home / "c.json", 0o644, url=OURS), home, home) is not None
    with pytest.raises(ConfigurationInvalid, match="chmod 600"):
        find_configuration(write(home / "c.json", 0o644, url=OURS, key="gs_secret"), home, home)


@pytest.mark.parametrize("content", ['{"urll": "x"}', '{"key": 5, "url": "gs_secret"}', "gs_secret", "[]"])
def test_a_file_that_is_wrong_is_refused_without_quoting_it(home: Path, content: str) -> None:
    path = home / "c.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationInvalid, match="allowed: url, key, trustedRoot") as told:
        find_configuration(path, home, home)
    assert "gs_secret" not in str(told.value)
    assert told.value.__cause__ is None


def test_the_command_line_goes_before_the_file(home: Path) -> None:
    path = write(home / "c.json", url=OURS, key="gs_file")
    assert Invocation(None, None, path).connection() == Connection(OURS, "gs_file")
    assert Invocation(None, "gs_given", path).connection() == Connection(OURS, "gs_given")
    assert Invocation("http://x", "gs_given", path).connection() == Connection("http://x", "gs_given")
    assert Invocation(None, None, None).connection() == Connection(DEFAULT_URL, None)


def test_a_key_from_a_file_goes_to_that_files_url_alone(home: Path) -> None:
    path = write(home / "c.json", url=OURS, key="gs_file")
    assert Invocation(OURS + "/", None, path).connection().key == "gs_file"
    assert Invocation("http://elsewhere.example", None, path).connection().key is None


def test_a_key_of_ours_does_not_go_to_a_url_that_lay_in_the_directory(home: Path) -> None:
    write(home / "project/.goldsmith/client.json", url="http://thief.example")
    with pytest.raises(KeyAndUrlApart, match=r"thief\.example"):
        Invocation(None, "gs_ours", None).connection()
    assert Invocation(OURS, "gs_ours", None).connection() == Connection(OURS, "gs_ours")


def test_whom_to_believe_a_rebuild_is_a_key_of_its_own_and_is_kept_when_others_are_saved(home: Path) -> None:
    path = write(home / ".config/goldsmith/client.json", rebuilder="https://ours.example/rebuilder")
    found = find_configuration(None, home / "project" / "sub", home)
    assert found is not None
    assert found.configuration.rebuilder == "https://ours.example/rebuilder"
    save(path, found.configuration.model_copy(update={"url": OURS}))
    assert json.loads(path.read_text()) == {"url": OURS, "rebuilder": "https://ours.example/rebuilder"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path / "state") as running:
        yield running


def test_the_configuration_alone_is_enough(
    home: Path, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(home / "project/.goldsmith/client.json", url=api.url, key=api.key)
    assert main(["recipes"]) == 0
    monkeypatch.setenv("GOLDSMITH_CLIENT_CONFIG", str(path))
    monkeypatch.chdir("/")
    assert main(["recipes"]) == 0
    assert main(["recipes", "--key", "gs_wrong"]) == 1
    assert "not known" in capsys.readouterr().err
