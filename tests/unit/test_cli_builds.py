"""`goldsmith build` and its companions, against a real API whose workers are played."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.errors import Fault, Rejected
from builder.store.states import BUILD, State
from tests.unit.cli_commands import command, environment, meanwhile, newest, on_a_terminal, playing, submitted
from tests.unit.cli_server import IMAGE, OTHER, WEB_RECIPE, Api, running_api

Output = pytest.CaptureFixture[str]
ESCAPES = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202eevil"
RAW_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api") / "state") as running:
        yield running


@pytest.fixture
def api(served: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Api:
    monkeypatch.chdir(tmp_path)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


def test_a_build_is_followed_to_its_release_and_says_all_that_matters(api: Api, capsys: Output) -> None:
    with playing(api, "web", lambda worker: worker.release()):
        assert main(["build", "web"]) == 0
    out = capsys.readouterr().out
    for part in (
        "web/packages: done in",
        "18 packages installed",
        f"127.0.0.1:5000/golden/web@{IMAGE}",
        "142 packages, 48.3 MB compressed",
        "0 critical, 0 high, 1 medium, 0 low",
        "SAMPLE DATABASE",
        "SANDBOX, no real Sigstore: https://sandbox.invalid/release",
        "log index 7",
        f"GET /v1/images/{IMAGE}/record",
        f"goldsmith verify 127.0.0.1:5000/golden/web@{IMAGE}",
        f"docker pull 127.0.0.1:5000/golden/web@{IMAGE}",
        f"goldsmith compare CONTAINER 127.0.0.1:5000/golden/web@{IMAGE}",
    ):
        assert part in out


def test_a_real_signature_and_a_real_database_carry_no_marks(api: Api, capsys: Output) -> None:
    with playing(api, "web", lambda worker: worker.release(sample=False, sandbox=False)):
        assert main(["build", "web"]) == 0
    out = capsys.readouterr().out
    assert "SAMPLE" not in out
    assert "SANDBOX" not in out


def test_for_machines_a_build_is_one_json_object(api: Api, capsys: Output) -> None:
    with playing(api, "web", lambda worker: worker.release()):
        assert main(["build", "web", "--json"]) == 0
    build = json.loads(capsys.readouterr().out)
    assert build["state"] == "released"
    assert build["result"]["digest"] == IMAGE
    assert build["result"]["sandboxSigner"] is True


def test_a_recipe_file_is_sent_whole_with_the_files_it_names(api: Api, capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "motd").write_text("welcome\n")
    file = tmp_path / "mine.yaml"
    file.write_text(
        WEB_RECIPE.replace("name: web", "name: mine").replace("golden/web", "my/web")
        + "  files: [{path: /etc/motd, source: motd}]\n"
    )
    assert main(["build", str(file), "--no-wait", "--json"]) == 0
    build = json.loads(capsys.readouterr().out)
    assert build["recipe"] == "mine"
    with api.database.read() as session:
        from builder.store import builds

        kept = json.loads(builds.get(session, build["id"]).recipe)
    assert kept["spec"]["files"][0]["content"] == "welcome\n"


def test_a_file_with_a_typo_is_refused_before_anything_is_sent(api: Api, capsys: Output, tmp_path: Path) -> None:
    file = tmp_path / "typo.yaml"
    file.write_text(WEB_RECIPE.replace("packages:", "pakages:").replace("name: web", "name: typo"))
    assert main(["build", str(file)]) == 1
    err = capsys.readouterr().err
    assert "line 6, column 3: spec.pakages: unknown key (did you mean 'packages'?)" in err
    assert newest(api, "typo") is None


def test_without_waiting_it_says_how_to_follow(api: Api, capsys: Output) -> None:
    assert main(["build", "web", "--no-wait"]) == 0
    out = capsys.readouterr().out
    assert f"goldsmith logs --follow {newest(api, 'web')}" in out
    assert "is queued" in out


def test_the_base_that_a_build_waits_for_is_followed_first(tmp_path: Path, capsys: Output) -> None:
    with running_api(tmp_path / "state") as api:

        def work() -> None:
            api.worker(api.newest("base")).release(OTHER)
            api.worker(api.newest("layered")).release(IMAGE)

        with meanwhile(work):
            assert main(["build", "layered", "--url", api.url, "--key", api.key]) == 0
        base = api.newest("base")
    out = capsys.readouterr().out
    assert f"layered waits for its base: build {base} of base" in out
    assert out.index("base/sign: done") < out.index("layered/packages: done") < out.index("released")


def test_the_base_is_not_followed_on_for_a_build_that_was_cancelled(tmp_path: Path, capsys: Output) -> None:
    with running_api(tmp_path / "state") as api:

        def work() -> None:
            base = api.worker(api.newest("base")).take(BUILD)
            base.step("resolve")
            assert subprocess.run(command("cancel", api.newest("layered")), env=environment(api)).returncode == 0
            base.step("packages")

        with meanwhile(work):
            assert main(["build", "layered", "--url", api.url, "--key", api.key]) == 2
    told = capsys.readouterr()
    assert "base/resolve: done" in told.out
    assert "cancelled: The build was cancelled" in told.err


def test_a_build_whose_base_fails_fails_and_names_the_base(tmp_path: Path, capsys: Output) -> None:
    with running_api(tmp_path / "state") as api:

        def work() -> None:
            api.worker(api.newest("base")).fail(Rejected("it broke").problem())

        with meanwhile(work):
            assert main(["build", "layered", "--url", api.url, "--key", api.key]) == 2
        base = api.newest("base")
    told = capsys.readouterr()
    assert "base/packages: failed" in told.out
    assert f"goldsmith show {base}" in told.err


def test_a_failed_build_tells_every_error_the_last_lines_and_where_the_log_is(api: Api, capsys: Output) -> None:
    faults = [Fault(message="unknown package", field="spec.packages[0]", hint="did you mean 'nginx-light'?")]
    problem = Rejected("nginx-lite is not in Debian", hint="check the name", errors=faults).problem()
    with playing(api, "web", lambda worker: worker.fail(problem)):
        assert main(["build", "web"]) == 2
    told = capsys.readouterr()
    assert "web/packages| E: no such package" in told.out
    assert "failed: The request cannot be carried out" in told.err
    assert "nginx-lite is not in Debian" in told.err
    assert "- spec.packages[0]: unknown package (did you mean 'nginx-light'?)" in told.err
    assert "way out: check the name" in told.err
    assert f"log: goldsmith logs {newest(api, 'web')}" in told.err


def test_a_cancelled_build_is_no_success(api: Api, capsys: Output) -> None:
    known = newest(api, "web")

    def work() -> None:
        submitted(api, "web", known)
        assert subprocess.run(command("cancel", newest(api, "web") or ""), env=environment(api)).returncode == 0

    with meanwhile(work):
        assert main(["build", "web"]) == 2
    assert "cancelled" in capsys.readouterr().err


def test_nothing_in_a_log_can_act_on_the_terminal(api: Api, capsys: Output) -> None:
    known = newest(api, "web")

    def work() -> None:
        worker = submitted(api, "web", known).take(BUILD)
        step = worker.begin("run", ESCAPES, f"two {ESCAPES}")
        worker.finish(step, ESCAPES, state="failed")
        fault = Fault(message=ESCAPES, field=ESCAPES, hint=ESCAPES)
        worker.end(State.FAILED, Rejected(ESCAPES, hint=ESCAPES, errors=[fault, fault]).problem())

    with meanwhile(work):
        assert main(["build", "web"]) == 2
    build = newest(api, "web") or ""
    for arguments in (["logs", build], ["logs", "-f", build], ["show", build], ["builds"], ["show", build, "--json"]):
        assert main(arguments) == 0
    assert main(["logs", build, "--json"]) == 0
    told = capsys.readouterr()
    assert not RAW_CONTROL.search(told.out + told.err)
    assert told.out.count("\\x1b[31mred\\x1b]0;title\\x07\\x9b2J\\u202eevil") >= 8


def test_a_terminal_gets_no_escapes_of_others_either(api: Api) -> None:
    known = newest(api, "web")

    def work() -> None:
        worker = submitted(api, "web", known).take(BUILD)
        step = worker.begin("run", ESCAPES)
        time.sleep(0.6)
        worker.finish(step, ESCAPES, state="failed")
        worker.end(State.FAILED, Rejected(ESCAPES).problem())

    with meanwhile(work):
        shown = on_a_terminal(api, "build", "web")
    assert "\x1b[31mred" not in shown
    assert "\x1b]0;" not in shown
    assert "\\x1b[31mred" in shown


def test_a_terminal_shows_what_runs_with_its_seconds_and_its_last_line(api: Api) -> None:
    known = newest(api, "web")

    def work() -> None:
        worker = submitted(api, "web", known)
        time.sleep(0.5)
        worker.take(BUILD)
        step = worker.begin("packages", "Unpacking nginx")
        time.sleep(0.8)
        worker.finish(step, "18 packages installed")
        worker.end(State.FAILED, Rejected("enough").problem())

    with meanwhile(work):
        shown = on_a_terminal(api, "build", "web")
    assert re.search(r"waits for a worker  0\.\d s", shown)
    assert re.search(r"packages     0\.\d s", shown)
    assert "Unpacking nginx" in shown
    assert re.search(r"packages     done in \d\.\d s  18 packages installed", shown)


def test_ctrl_c_leaves_the_build_alone_and_says_so(api: Api) -> None:
    known = newest(api, "web")
    child = subprocess.Popen(
        command("build", "web"), env=environment(api), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    submitted(api, "web", known)
    assert child.stdout is not None
    assert "build" in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)
    build = newest(api, "web")
    assert child.returncode == 130
    assert f"`goldsmith cancel {build}` ends it" in err
    assert "Traceback" not in err
    with api.database.read() as session:
        from builder.store import builds

        assert builds.get(session, build or "").state == "queued"


def test_builds_are_listed_newest_first_and_by_recipe_and_state(tmp_path: Path, capsys: Output) -> None:
    with running_api(tmp_path / "state") as api:
        where = ["--url", api.url, "--key", api.key]
        assert main(["builds", *where]) == 0
        assert "there are no such builds" in capsys.readouterr().out
        for recipe in ("web", "base", "web"):
            main(["build", recipe, "--no-wait", *where])
        api.worker(api.newest("web")).release()
        capsys.readouterr()
        assert main(["builds", "--recipe", "web", *where]) == 0
        heading, first, second = capsys.readouterr().out.splitlines()
        assert heading.split()[:3] == ["BUILD", "RECIPE", "STATE"]
        assert "released" in first
        assert "queued" in second
        assert main(["builds", "--state", "queued", "--json", *where]) == 0
        listed = json.loads(capsys.readouterr().out)["builds"]
        assert [one["recipe"] for one in listed] == ["base", "web"]
        assert main(["builds", "--limit", "1", "--json", *where]) == 0
        assert len(json.loads(capsys.readouterr().out)["builds"]) == 1


def test_a_log_is_printed_followed_and_given_as_json_lines(api: Api, capsys: Output) -> None:
    assert main(["build", "web", "--no-wait"]) == 0
    build = newest(api, "web") or ""
    api.worker(build).release()
    capsys.readouterr()
    for arguments in (["logs", build], ["logs", "--follow", build]):
        assert main(arguments) == 0
        assert capsys.readouterr().out.split() == ["packages", "Setting", "up", "nginx"]
    for arguments in (["logs", build, "--json"], ["logs", "-f", build, "--json"]):
        assert main(arguments) == 0
        line = json.loads(capsys.readouterr().out)
        assert (line["number"], line["step"], line["text"]) == (1, "packages", "Setting up nginx")
        assert line["at"].endswith("Z")


def test_a_build_that_has_ended_cannot_be_cancelled(api: Api, capsys: Output) -> None:
    main(["build", "web", "--no-wait"])
    build = newest(api, "web") or ""
    assert main(["cancel", build]) == 0
    assert "is cancelled" in capsys.readouterr().out
    assert main(["cancel", build]) == 1
    assert "is already cancelled" in capsys.readouterr().err


def test_a_build_that_a_worker_holds_is_asked_to_end(api: Api, capsys: Output) -> None:
    main(["build", "web", "--no-wait"])
    build = newest(api, "web") or ""
    api.worker(build).take(BUILD)
    assert main(["cancel", build]) == 0
    assert "asked to end" in capsys.readouterr().out


def test_recipes_are_listed_with_those_that_cannot_be_used(tmp_path: Path, capsys: Output) -> None:
    with running_api(tmp_path / "state", [("web", WEB_RECIPE), ("bad", "kind: Image\n")]) as api:
        assert main(["recipes", "--url", api.url, "--key", api.key]) == 0
        told = capsys.readouterr()
        assert "golden/web:latest,1.0" in told.out
        assert "bad cannot be used:" in told.err
        assert main(["recipes", "--json", "--url", api.url, "--key", api.key]) == 0
        page = json.loads(capsys.readouterr().out)
        assert [one["name"] for one in page["recipes"]] == ["web"]
        assert list(page["invalid"]) == ["bad"]
