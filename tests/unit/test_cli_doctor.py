"""`goldsmith doctor` on a machine of a client: an API, a key, whom to trust, and nothing of the service."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.doctor.findings import run as run_checks
from builder.cli.doctor.hosts import checks as hosts_checks
from builder.cli.main import main
from builder.recipes.git import installed_git
from builder.settings import load_settings
from builder.store.keys import create_key, revoke
from tests.unit.cli_server import WEB_RECIPE, Api, free_port, running_api
from workers.errands import tell_of_secret

Output = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    # Its Redis is nowhere.
    redis = f"redis://127.0.0.1:{free_port()}/0"
    with running_api(tmp_path_factory.mktemp("api") / "state", [("web", WEB_RECIPE)], redis_url=redis) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("GOLDSMITH_")]:
        monkeypatch.delenv(name)


def doctor(capsys: Output, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    capsys.readouterr()
    ended = main(["doctor", "--json", *arguments])
    told = json.loads(capsys.readouterr().out)
    return ended, {one["name"]: one for one in told["checks"]}


def configured(path: Path, **members: object) -> list[str]:
    path.write_text(json.dumps(members))
    path.chmod(0o600)
    return ["--config", str(path)]


@pytest.mark.parametrize(
    ("hosts", "says", "state", "detail"),
    [
        ("", None, "ok", "not needed"),
        ("git.example", "git version 2.39.5", "ok", "Git 2.39.5 for git.example"),
        ("git.example", "git version 2.36.1", "fail", "2.37 is needed"),
        ("git.example", None, "fail", "not installed"),
    ],
)
def test_git_is_needed_where_recipes_may_come_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: str, says: str | None, state: str, detail: str
) -> None:
    if says is not None:
        (tmp_path / "git").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GOLDSMITH_GIT_HOSTS", hosts)
    installed_git.cache_clear()
    settings = load_settings()
    checks = [check for check in hosts_checks("api", settings) if check.name == "git"]
    [(_, finding)] = run_checks(checks, 10)
    installed_git.cache_clear()
    assert finding.state == state
    assert detail in finding.detail


@pytest.mark.parametrize(
    ("mode", "content", "state", "detail"),
    [
        (0o600, "whsec_" + "QUJD" * 10, "ok", "its secret is in"),
        (0o644, "whsec_" + "QUJD" * 10, "fail", "has mode 0644: others may read or write it"),
        (0o600, "whsec_QUJD", "fail", "holds 3 bytes"),
        (None, "", "fail", "holds no secret"),
    ],
)
def test_the_secret_of_the_webhook_is_looked_at_before_a_notice_needs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    mode: int | None, content: str, state: str, detail: str,
) -> None:  # fmt: skip
    path = tmp_path / "secret"
    if mode is not None:
        path.write_text(content)
        path.chmod(mode)
    monkeypatch.setenv("GOLDSMITH_WEBHOOK_URL", "https://hook.example/")
    monkeypatch.setenv("GOLDSMITH_WEBHOOK_SECRET_FILE", str(path))
    [(_, finding)] = run_checks([one for one in hosts_checks("errands", load_settings()) if one.name == "webhook"], 10)
    assert finding.state == state
    assert detail in finding.detail
    tell_of_secret()  # as the worker does when it starts
    assert (detail in caplog.text) == (state == "fail")


def test_a_client_that_has_what_it_needs(api: Api, capsys: Output, tmp_path: Path) -> None:
    ended, found = doctor(capsys, *configured(tmp_path / "client.json", url=api.url, key=api.key))
    assert ended == 0
    assert set(found) == {"configuration", "api", "key", "trust", "clock"}, "nothing of the service is asked for"
    assert found["key"]["state"] == found["clock"]["state"] == found["configuration"]["state"] == "ok"
    assert found["api"]["state"] == "warn"
    assert "redis" in found["api"]["detail"]
    assert "trustedRoot" in found["trust"]["mend"]


def test_faults_of_the_key(api: Api, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    with api.database.write() as session:
        soon = create_key(session, "soon", expires_at=time.time() + 3600)
        ended = create_key(session, "ended", expires_at=time.time() - 1)
        gone = create_key(session, "gone")
        revoke(session, "gone")
    url = ["--url", api.url]
    for key, state, told in (
        ("", "fail", "there is no key"),
        ("gs_nobody", "fail", "not known"),
        (gone, "fail", "revoked"),
        (ended, "fail", "expired"),
        (soon, "warn", "only until"),
    ):
        code, found = doctor(capsys, *url, "--key", key)
        assert (found["key"]["state"], code) == (state, 2 if state == "fail" else 0)
        assert told in found["key"]["detail"]
        assert found["key"]["mend"]
        assert not key or key not in json.dumps(found)


def test_an_api_that_is_away_is_one_fault_and_not_several(capsys: Output) -> None:
    code, found = doctor(capsys, "--url", f"http://127.0.0.1:{free_port()}", "--key", "gs_x")
    assert code == 2
    assert [name for name, one in found.items() if one["state"] == "fail"] == ["api"]


def test_an_api_that_never_answers_holds_nobody_up(capsys: Output) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        code, found = doctor(capsys, "--url", f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "2")
        assert time.monotonic() - begun < 6
    assert code == 2
    assert found["api"]["detail"] == "no answer within 2 seconds"


def test_configurations_that_cannot_be_used(api: Api, capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    code, found = doctor(capsys, "--config", str(tmp_path / "broken.json"))
    assert code == 2
    assert found["configuration"]["state"] == "fail"
    code, found = doctor(capsys, *configured(tmp_path / "c.json", url=api.url, key=api.key, trustedRoot="nowhere.json"))
    assert (code, found["trust"]["state"]) == (2, "fail")


def test_settings_of_the_service_make_a_host_of_it(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDSMITH_DATABASE_URL", "sqlite:////nowhere/x.db")
    _, found = doctor(capsys, "--timeout", "3")
    assert {"database", "redis", "registry", "api"} <= set(found)
    assert not {"engine", "ledger-key"} & set(found), "no setting of theirs is there"


def test_people_read_a_line_each(api: Api, capsys: Output) -> None:
    assert main(["doctor", "--url", api.url, "--key", api.key]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["configuration", "api", "key", "trust", "clock"]
    assert lines[2].startswith("ok    key")


def test_a_clock_of_another_year_is_told() -> None:
    code = "import time; time.time = lambda: 1e9\nfrom builder.cli.doctor.clock import check\nprint(check([]).look())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "it is 2001-09-09 here" in ended.stdout
