"""`goldsmith recipe new`: what it writes is valid, what it asks can be answered wrongly, and nothing is overwritten."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.recipes.catalogue import read_recipe_file
from builder.recipes.document import RecipeInvalid
from builder.recipes.draft import Draft
from builder.recipes.reading import read_recipe
from tests.unit.cli_commands import command

Output = pytest.CaptureFixture[str]
DIGEST = "sha256:" + "5c" * 32


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_is_told_by_options_is_in_the_recipe(capsys: Output) -> None:
    line = ["recipe", "new", "shop", "--base", "recipe:debian", "--package", "nginx-light", "--package", "curl"]
    line += ["--user", "web", "--port", "8080", "--command", "/usr/sbin/nginx -g 'daemon off;'", "--no-ask"]
    assert main([*line, "--description", "Sells: things"]) == 0
    assert "goldsmith build shop.yaml" in capsys.readouterr().out
    spec = read_recipe_file(Path("shop.yaml")).spec
    assert spec.base.recipe == "debian"
    assert spec.packages == ["nginx-light", "curl"]
    assert spec.entrypoint == ["/usr/sbin/nginx", "-g", "daemon off;"]
    assert (spec.users[0].name, spec.user, spec.ports) == ("web", "10001:10001", ["8080/tcp"])
    assert spec.publish.repository == "golden/shop"
    assert read_recipe_file(Path("shop.yaml")).metadata.description == "Sells: things"
    assert main(["recipe", "validate", "shop.yaml"]) == 0


def test_nothing_but_a_name_is_enough(capsys: Output) -> None:
    assert main(["recipe", "new", "bare", "--no-ask", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "bare.yaml"
    spec = read_recipe_file(Path("bare.yaml")).spec
    assert spec.base.debian is not None
    assert spec.hardening.remove_package_manager
    assert spec.tests


def test_a_file_that_is_there_is_left_alone(capsys: Output) -> None:
    Path("shop.yaml").write_text("mine")
    assert main(["recipe", "new", "shop", "--no-ask"]) == 1
    assert "shop.yaml is there already (give another name" in capsys.readouterr().err
    assert Path("shop.yaml").read_text() == "mine"
    assert main(["recipe", "new", "shop", "--no-ask", "-o", "other.yaml"]) == 0
    assert main(["recipe", "new", "shop", "--no-ask", "-o", "nowhere/x.yaml"]) == 1


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("", 64, "say what it is called"),
        ("Shop", 1, "metadata.name: 'Shop' does not match"),
        ("shop --base debian", 1, "'debian' is no base (write debian:trixie"),
        ("shop --package -x", 1, "spec.packages[0]: '-x' does not match"),
        ("shop --port 70000", 64, "--port"),
        ("shop --user Web", 1, "spec.users[0].name"),
        ("shop --repository staging/x", 1, "Goldsmith's own"),
        ("shop --command 'x", 64, "no closing quotation"),
    ],
)
def test_a_wrong_answer_is_told_and_nothing_is_written(capsys: Output, line: str, code: int, told: str) -> None:
    assert main(["recipe", "new", *(line.split(" ") if line else ()), "--no-ask"]) == code
    err = capsys.readouterr().err
    assert told in err
    assert " line " not in err, "nobody has seen the text"
    assert list(Path.cwd().iterdir()) == []


def test_it_asks_again_until_an_answer_will_do(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    answers = ["My Shop", "shop", "wheezy", "recipe:debian", "nginx-light, curl", "'x", "/usr/sbin/nginx"]
    answers += ["http", "8080", ""]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*answers, ""])))
    assert main(["recipe", "new", "--ask"]) == 0
    told = capsys.readouterr()
    assert "'My Shop' does not match" in told.err
    assert "'wheezy' is no base" in told.err
    spec = read_recipe_file(Path("shop.yaml")).spec
    assert (spec.base.recipe, spec.packages, spec.ports) == ("debian", ["nginx-light", "curl"], ["8080/tcp"])
    assert spec.users[0].name == "app"


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    near, far = os.openpty()
    root = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        command("recipe", "new", "shop"), stdin=far, stdout=far, stderr=far, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "TERM": "xterm"},
    )  # fmt: skip
    os.close(far)
    for _ in range(5):
        os.write(near, b"\n")
        time.sleep(0.05)
    assert child.wait(30) == 0
    shown = os.read(near, 65536).decode()
    os.close(near)
    assert "Debian packages, with blanks between them" in shown
    assert read_recipe_file(tmp_path / "shop.yaml").metadata.name == "shop"


@pytest.mark.parametrize("base", ["debian:bookworm", "recipe:web", f"registry.example/base@{DIGEST}"])
@pytest.mark.parametrize("user", [None, "app"])
@pytest.mark.parametrize("port", [None, 8080])
@pytest.mark.parametrize("start", [(), ("/usr/bin/a b", "--x: y", '"', "#")])
def test_whatever_is_answered_the_draft_is_valid(
    base: str, user: str | None, port: int | None, start: tuple[str, ...]
) -> None:
    description = "# it's: 'a' \"b\" \\"
    draft = Draft("x1", description, base=base, packages=("g++",), user=user, port=port, command=start)
    recipe = read_recipe(draft.text())
    assert tuple(recipe.spec.entrypoint) == start
    assert recipe.metadata.description == draft.description


@pytest.mark.parametrize("name", ["no", "null", "true", "y", "1", "1e3", "0x1"])
def test_a_name_that_yaml_reads_as_something_else_is_in_quotes(name: str) -> None:
    assert read_recipe(Draft(name).text()).metadata.name == name


def test_text_that_would_break_out_of_its_line_is_refused_or_quoted() -> None:
    assert "kind: Evil" not in [line.strip() for line in Draft("x", description="a\nkind: Evil").text().splitlines()]
    with pytest.raises(RecipeInvalid):
        Draft("x\nkind: Evil").text()
