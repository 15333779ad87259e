"""How long a build will take: from what came to the same end before, and from nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builder.cli.estimating import Estimate, estimate_from
from builder.cli.main import main
from builder.client.models import Build, Step
from builder.errors import Rejected
from builder.store.states import BUILD, State
from tests.unit.cli_commands import meanwhile, newest, on_a_terminal, playing, submitted
from tests.unit.cli_server import WEB_RECIPE, Api, running_api

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with running_api(tmp_path / "api", [("web", WEB_RECIPE)]) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield running


def ended(*starts: tuple[str, float], whole: float, waited: float = 30, **changed: object) -> Build:
    """A build that waited first, and whose steps began so many seconds after that."""
    steps = tuple(Step(name=name, state="done", started_at=NOW + timedelta(seconds=at)) for name, at in starts)
    usual = {
        "id": "b", "state": "released", "recipe": "web", "recipe_digest": "", "requester": "", "attempt": 1,
        "created_at": NOW - timedelta(seconds=waited), "finished_at": NOW + timedelta(seconds=whole), "steps": steps,
    }  # fmt: skip
    return Build.model_validate({**usual, **changed})


def test_waiting_for_a_worker_is_no_part_of_it_and_waiting_between_steps_is() -> None:
    found = estimate_from([ended(("packages", 0), ("scan", 8), whole=20)])
    assert found == Estimate(20, {"packages": 20, "scan": 12})


def test_one_slow_build_does_not_decide() -> None:
    builds = [ended(("packages", 0), whole=whole) for whole in (10, 12, 600)]
    assert estimate_from(builds) == Estimate(12, {"packages": 12})


def test_what_was_lost_unchanged_or_has_not_ended_tells_nothing() -> None:
    told = {"finished_at": None}, {"attempt": 2}, {"unchanged_since": "a"}, {"steps": ()}
    assert estimate_from([ended(("packages", 0), whole=10, **one) for one in told]) is None
    assert estimate_from([]) is None


def test_a_first_build_has_no_estimate_and_a_second_one_has(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    with playing(api, "web", lambda worker: worker.release()):
        assert main(["build", "web"]) == 0
    assert "usually" not in capsys.readouterr().out
    with playing(api, "web", lambda worker: worker.release()):
        assert main(["build", "web", "--force"]) == 0
    assert re.match(r"web: build \w{26}, usually done in \d+ s\n", capsys.readouterr().out)


def test_a_terminal_counts_down_and_shows_the_last_lines(api: Api) -> None:
    with playing(api, "web", lambda worker: worker.release(pause=2.0)):
        main(["build", "web"])
    known = newest(api, "web")

    def work() -> None:
        worker = submitted(api, "web", known)
        time.sleep(0.6)
        worker.take(BUILD)
        step = worker.begin("packages", "Unpacking nginx", "Setting up nginx")
        time.sleep(0.9)
        worker.finish(step)
        worker.end(State.FAILED, Rejected("enough").problem())

    with meanwhile(work):
        shown = on_a_terminal(api, "build", "web", "--force")
    assert re.search(r"web: 0\.\d s, about 2 s once it starts", shown)
    assert re.search(r"web: \d\.\d s, about [12] s to go", shown)
    assert "Setting up nginx" in shown
