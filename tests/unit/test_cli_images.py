"""`goldsmith images`: what is released, once each, and one of them whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.store.attachments import Kind
from tests.unit.cli_commands import playing
from tests.unit.cli_server import IMAGE, OTHER, WEB_RECIPE, Api, Worker, running_api

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api"), [("web", WEB_RECIPE)]) as api:
        yield api


@pytest.fixture
def api(running: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output) -> Api:
    for name in [name for name in os.environ if name.startswith("GOLDSMITH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


def released(worker: Worker) -> None:
    worker.release()
    worker.attach(Kind.PROVENANCE, "application/vnd.dev.sigstore.bundle.v0.3+json", b"{}")


def test_an_image_that_nobody_released_is_told_with_the_way_out(api: Api, capsys: Output) -> None:
    assert main(["images", OTHER]) == 1
    assert "`goldsmith images` lists them" in capsys.readouterr().err
    assert main(["images", "web"]) == 1
    assert "`goldsmith images` lists what is released" in capsys.readouterr().err
    assert main(["images", IMAGE, "--recipe", "web"]) == 64


def test_one_image_is_shown_whole(api: Api, capsys: Output) -> None:
    with playing(api, "web", released):
        main(["build", "web", "--force"])
    capsys.readouterr()
    for name in (IMAGE, f"127.0.0.1:5000/golden/web@{IMAGE}"):
        assert main(["images", name]) == 0
        out = capsys.readouterr().out
        for told in ("tags        latest", "gate        passed", "since then  not scanned", "provenance  sha256:"):
            assert told in out
        assert f"goldsmith verdict {IMAGE}" in out
    assert main(["images", IMAGE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["digest"], found["tags"]) == (IMAGE, ["latest"])
    assert [one["kind"] for one in found["attestations"]] == ["provenance"]
