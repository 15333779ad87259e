"""The frame of the command line: help, exit codes, where options may stand, and what mistakes are answered with."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from builder import __version__
from builder.cli import exits
from builder.cli.evidence import INVENTORY_TYPE
from builder.cli.main import app, main
from builder.cli.output import as_json, visible
from builder.image import inventory
from tests.unit.cli_server import WEB_RECIPE, free_port

Output = pytest.CaptureFixture[str]
COMMANDS = [
    "build",
    "builds",
    "show",
    "logs",
    "cancel",
    "rebuild",
    "recipes",
    "provenance",
    "verify",
    "compare",
    "images",
    "doctor",
    "recipe",
    "admin",
]
DIGEST = "sha256:" + "5c" * 32
NO_REGISTRY = "names no registry (write HOST[:PORT]/REPOSITORY, then :TAG or @sha256:DIGEST; `goldsmith images`"
ROOT = Path(__file__).parents[2]


def _commands() -> dict[str, Any]:
    """Every command by its name, such as `recipe lock`, those apart that are hidden."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            if not inner.hidden:
                yield from walk(inner, (*path, name))
        if not hasattr(command, "commands"):
            yield " ".join(path), command

    return dict(walk(typer.main.get_command(app), ()))


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("GOLDSMITH_")]:
        monkeypatch.delenv(name)


def test_the_help_lists_every_command_and_the_exit_codes(capsys: Output) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in out
    for code in ("0 done", "1 the command could not", "2 the answer is no", "64 wrong", "130 interrupted"):
        assert code in " ".join(out.split())
    assert "..." not in out.replace("[ARGS]...", "")


@pytest.mark.parametrize(
    "command",
    [*COMMANDS, "recipe lock", "recipe validate", "recipe new", "key", "keys", "admin migrate", "admin create-key"],
)
def test_every_command_has_help(capsys: Output, command: str) -> None:
    assert main([*command.split(), "--help"]) == 0
    assert f"Usage: goldsmith {command}" in capsys.readouterr().out


def test_the_help_comes_at_once_and_loads_nothing_heavy() -> None:
    loaded = "import sys; from builder.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    started = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=ROOT, check=True)
    assert time.monotonic() - started < 2, "0.2 s on an idle machine"
    heavy = {"sigstore", "docker", "sqlalchemy", "httpx", "fastapi", "cryptography", "celery", "uvicorn"}
    assert not heavy & set(ended.stderr.split())


def test_no_command_of_a_client_loads_the_service() -> None:
    modules = "builds, locks, rebuilds, provenance, verifying, comparing, following, trusting, evidence, display, admin"
    loaded = f"import sys; from builder.cli import {modules}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not {"fastapi", "celery", "uvicorn", "builder.api", "builder.pipeline.build"} & set(ended.stdout.split())


def test_the_version(capsys: Output) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"goldsmith {__version__}\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("biuld web", "No such command 'biuld'. Did you mean 'build'"),
        ("builds --stat released", "--stat (Possible options: --state)"),
        ("builds --state relesed", "'relesed' is not one of 'waiting', 'queued'"),
        ("doctor --role server", "'server' is not one of 'client', 'api', 'build'"),
        ("show", "Missing argument 'BUILD'"),
        ("builds --limit many", "--limit"),
        ("builds --limit 0", "--limit"),
        ("builds --wrong", "No such option"),
        ("recipes --url", "Option '--url' requires an argument"),
        ("admin sample-database", "give one of the two"),
        ("admin create-key", "Missing argument 'NAME'"),
        ("build web --locked --update", "give one of --locked and --update"),
        ("recipe lock web --keep", "--keep: it is for writing the lock of a recipe file"),
        ("recipe lock web.yaml --keep --check", "--keep: it is for writing the lock of a recipe file"),
        ("recipe lock web.yaml --diff -o other.json", "--output: --check and --diff write nothing"),
        ("recipe lock web.lock.json", "web.lock.json is a lock: name the recipe that it belongs to"),
        ("build web.lock.json", "web.lock.json is a lock: name the recipe that it belongs to"),
        ("rebuild", "Missing argument 'REF|DIGEST'"),
        (f"verify {DIGEST} --rebuilder me", "--rebuilder: what a rebuilder attests is in the registry"),
    ],
)
def test_wrong_usage_is_64_and_one_line_that_names_the_help(capsys: Output, line: str, told: str) -> None:
    assert main(line.split()) == 64
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert "--help`)" in err


@pytest.mark.parametrize("line", ["", "recipe", "admin"])
def test_a_group_without_a_command_shows_its_help(capsys: Output, line: str) -> None:
    assert main(line.split()) == 64
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["before", "behind", "joined"])
def test_global_options_may_stand_before_and_behind_the_command(capsys: Output, place: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    line = {
        "before": ["--url", url, "recipes"],
        "behind": ["recipes", "--url", url],
        "joined": ["recipes", f"--url={url}"],
    }[place]
    assert main(line) == 1
    assert (
        f"the Goldsmith API at {url} does not answer: Connection refused (start it, or name" in capsys.readouterr().err
    )


def test_ctrl_c_while_nobody_answers_is_a_line_and_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = ["recipe", "lock", "web", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        child = subprocess.Popen(
            [sys.executable, "-m", "builder.cli", *line], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        with silent.accept()[0] as near:
            near.recv(65536)
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert err.strip() == "goldsmith: interrupted"


def test_a_failure_is_json_too_when_json_is_asked_for(capsys: Output) -> None:
    assert main(["builds", "--json", "--url", f"http://127.0.0.1:{free_port()}"]) == 1
    told = capsys.readouterr()
    problem = json.loads(told.out)["problem"]
    assert problem["type"] == "/problems/api-unreachable"
    assert problem["retryable"] is True
    assert told.err.startswith("goldsmith: ")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "verify web",
            f"'web' {NO_REGISTRY}",
        ),
        ("verify sha256:abc", "'sha256:abc' is not a digest (write sha256: and 64 lower-case hex digits)"),
        ("verify host.example/web@sha256:abc", "'sha256:abc' is not a digest"),
        ("provenance abc", f"'abc' {NO_REGISTRY}"),
        (
            "rebuild web",
            f"'web' {NO_REGISTRY}",
        ),
        ("rebuild sha256:abc", "'sha256:abc' is not a digest (write sha256: and 64 lower-case hex digits)"),
        (f"rebuild {DIGEST[7:]}", f"'{DIGEST[7:]}' is not a digest (write sha256: and 64 lower-case hex digits)"),
        (f"verify {DIGEST[7:]}", f"'{DIGEST[7:]}' is not a digest (write sha256: and 64 lower-case hex digits)"),
        ("recipe lock nowhere.yaml", "cannot read nowhere.yaml: No such file or directory (check the path)"),
        (f"rebuild {DIGEST} --url http://127.0.0.1:1", "the Goldsmith API at http://127.0.0.1:1 does not answer: "),
        ("recipe lock web --url http://127.0.0.1:1", "the Goldsmith API at http://127.0.0.1:1 does not answer: "),
        ("build nowhere.yaml", "cannot read nowhere.yaml: No such file or directory (check the path)"),
        ("recipes --url host:80", "'host:80' is not the URL of an API (write it as http://HOST:PORT or https://HOST)"),
        ("recipes --config nowhere.json", "nowhere.json cannot be read: No such file or directory (check the path)"),
    ],
)
def test_a_typical_mistake_is_answered_with_what_why_and_the_way_out(capsys: Output, line: str, told: str) -> None:
    assert main(line.split()) == 1
    err = capsys.readouterr().err
    assert f"goldsmith: {told}" in err
    assert err.count("\n") == 1


def test_faults_of_a_recipe_are_told_with_their_places(capsys: Output, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(WEB_RECIPE.replace("packages:", "pakages:").replace("golden/web", "Golden/Web"))
    (tmp_path / "good.yaml").write_text(WEB_RECIPE)
    assert main(["recipe", "validate", "bad.yaml", "good.yaml"]) == 1
    told = capsys.readouterr()
    assert told.err.splitlines()[0] == "bad.yaml:6:3: spec.pakages: unknown key (did you mean 'packages'?)"
    assert told.err.splitlines()[1].startswith("bad.yaml:7:")
    assert "good.yaml: valid, web sha256:" in told.out
    assert main(["recipe", "validate", "good.yaml"]) == 0
    capsys.readouterr()
    assert main(["recipe", "validate", "bad.yaml", "good.yaml", "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)["files"]
    assert (first["valid"], second["valid"]) == (False, True)
    assert (first["errors"][0]["line"], first["errors"][0]["column"]) == (6, 3)


def test_a_file_that_is_not_yaml_has_a_place_too(capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("apiVersion: goldsmith/v1\nkind: [Image\n")
    assert main(["recipe", "validate", "bad.yaml"]) == 1
    assert capsys.readouterr().err.startswith("bad.yaml:3:")


def test_the_schema_is_printed(capsys: Output) -> None:
    assert main(["recipe", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Goldsmith recipe"


def test_colours_stay_out_of_terminals_that_want_none() -> None:
    def shown(**environment: str) -> str:
        near, far = os.openpty()
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        child = subprocess.Popen(
            [sys.executable, "-c", "from builder.cli.output import say, state_text; say(state_text('failed'))"],
            stdout=far,
            env={**kept, "TERM": "xterm", **environment},
            cwd=ROOT,
        )
        os.close(far)
        child.wait(20)
        out = os.read(near, 4096).decode()
        os.close(near)
        return out

    assert shown() == "\x1b[31mfailed\x1b[0m\r\n"
    assert shown(NO_COLOR="1") == "failed\r\n"


def test_a_locale_without_our_characters_ends_no_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "builder.cli", "recipe", "validate", "nowhere\u2026.yaml"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 1
    assert r"cannot read nowhere\u2026.yaml: No such file" in ended.stderr


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    line = f"{sys.executable} -m builder.cli recipe schema | head -c 1"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.stdout == "{"
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "a\rb", "a\nb", "\u202e", "\u2028", "\x00", "\ud800", "\x7f"])
def test_what_a_terminal_might_act_on_is_written_out(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(text) != text
    assert all(" " <= c <= "~" for c in as_json(text))
    assert json.loads(as_json(text)) == text


def test_ordinary_text_is_left_as_it_is() -> None:
    assert visible("déjà vu: 100 % [ok] :smile:") == "déjà vu: 100 % [ok] :smile:"


def test_the_inventory_is_looked_for_under_the_type_it_is_published_as() -> None:
    assert INVENTORY_TYPE == inventory.MEDIA_TYPE


def test_the_documented_exit_codes_are_those_there_are() -> None:
    table = (ROOT / "docs" / "cli.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    documented = [int(row.split("|")[1]) for row in table.splitlines() if re.match(r"\| \d", row)]
    there = sorted(value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int))
    assert documented == there
    assert [int(found) for found in re.findall(r"(?:: |; )(\d+) ", exits.EPILOG)] == there


def test_each_exit_code_is_what_its_line_says(capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(WEB_RECIPE)
    assert main(["recipe", "validate", "good.yaml"]) == exits.DONE
    assert main(["recipe", "validate", "bad.yaml"]) == exits.FAILED
    assert main(["doctor", "--url", "http://127.0.0.1:1"]) == exits.REFUSED
    assert main(["recipe", "valid"]) == exits.USAGE
    # 3 and 130 have tests of their own: a comparison's, and those with Ctrl-C.


@pytest.mark.parametrize("name", list(_commands()))
def test_what_prints_data_prints_json_for_machines(name: str) -> None:
    options = [option for parameter in _commands()[name].params for option in parameter.opts]
    # An archive, an inventory, a schema and documents that are JSON in any case.
    own = {"bundle", "inventory", "recipe schema", "ledger proof", "policy facts"}
    assert ("--json" in options) == (name not in own), name


@pytest.mark.parametrize("name", list(_commands()))
def test_every_command_is_in_the_table_of_the_documentation(name: str) -> None:
    table = (ROOT / "docs" / "cli.md").read_text().partition("| command |")[2].partition("\n\n")[0]
    rows = [row for row in table.splitlines() if re.match(rf"\| [^|]*`{name.split()[0]}\b", row)]
    assert any(re.search(rf"[`, ]{name.split()[-1]}\b", row) for row in rows), name
