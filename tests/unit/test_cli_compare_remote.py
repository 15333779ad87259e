"""`goldsmith compare --remote`: what is refused before anything is sent, and an upload that breaks off."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from builder.cli.main import main
from builder.store.schema import Build
from tests.unit.cli_server import IMAGE, Api, running_api

Output = pytest.CaptureFixture[str]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with running_api(tmp_path / "api", state_directory=tmp_path / "state", registry="127.0.0.1:1") as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        yield running


def builds(api: Api) -> int:
    with api.database.read() as session:
        return session.scalar(select(func.count()).select_from(Build)) or 0


@pytest.mark.parametrize(
    "option",
    [["--fast"], ["--rules", "r.yaml"], ["--evidence", "e"], ["--identity", "i"], ["--bundle", "b"],
     ["--sign", "-o", "o"]],
)  # fmt: skip
def test_what_only_whoever_compares_can_do_does_not_go_with_it(api: Api, option: list[str], capsys: Output) -> None:
    assert main(["compare", "--remote", IMAGE, "x.tar", *option]) == 64
    assert "leave " in capsys.readouterr().err


@pytest.mark.parametrize("subject", ["web-7", "container:web-7", "dir:/srv", "-", "layout:x"])
def test_what_cannot_be_sent_is_told_with_the_way_out(api: Api, subject: str, capsys: Output) -> None:
    assert main(["compare", "--remote", IMAGE, subject]) == 1
    assert "goldsmith inventory" in capsys.readouterr().err


def test_an_unknown_golden_image_and_a_missing_file_are_told(api: Api, tmp_path: Path, capsys: Output) -> None:
    assert main(["compare", "--remote", IMAGE, "none.tar"]) == 1
    assert "none.tar cannot be read" in capsys.readouterr().err
    (tmp_path / "some.tar").write_bytes(b"x")
    assert main(["compare", "--remote", IMAGE, "some.tar"]) == 1
    assert f"no image with the digest {IMAGE} was released here" in capsys.readouterr().err
    api.worker(api_build(api)).release()
    with api.database.write() as session:
        session.connection().exec_driver_sql("UPDATE releases SET registry_host = '127.0.0.1:1'")
    assert main(["compare", "--remote", IMAGE, "elsewhere.example/web:latest"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_a_connection_that_breaks_off_leaves_no_build_and_no_file(api: Api, tmp_path: Path) -> None:
    api.worker(api_build(api)).release()
    with api.database.write() as session:
        session.connection().exec_driver_sql("UPDATE releases SET registry_host = '127.0.0.1:1'")
    before = builds(api)
    host, _, port = api.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST /v1/comparisons?golden={IMAGE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n"
            "Content-Type: application/x-tar\r\nContent-Length: 5000000\r\n\r\n".encode()
            + bytes(2_000_000)
        )
        time.sleep(0.5)
    time.sleep(0.5)
    assert builds(api) == before
    assert list((tmp_path / "state/uploads").iterdir()) == []


def api_build(api: Api) -> str:
    assert main(["build", "web", "--no-wait"]) == 0
    return api.newest("web")
