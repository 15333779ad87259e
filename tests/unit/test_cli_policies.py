"""`goldsmith policy`: what is demanded and by whom, whether a file is valid, and what it would do to old scans."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.cli.main import main
from builder.policy.effective import refuse_looser
from builder.policy.in_force import document_of, policy_in_force
from builder.policy.organisation import DEFAULT, OrganisationPolicy
from builder.policy.policy import Policy
from builder.policy.reading import read_policy
from builder.policy.rules import RULES
from builder.recipes.catalogue import read_recipe_file
from tests.unit.cli_server import Api, running_api
from tests.unit.evidence import digest
from tests.unit.judged import facts
from tests.unit.scanned import EVERYTHING, RECIPE, hopeless, scanned

Output = pytest.CaptureFixture[str]
HEAD = "apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {name: acme, version: '7'}\n"
SHIPPED = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which nothing leads to a service."""
    for name in [name for name in os.environ if name.startswith("GOLDSMITH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GOLDSMITH_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture
def api(running: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


def told(capsys: Output, *arguments: str, ends: int = 0) -> Any:
    capsys.readouterr()
    assert main(["policy", *arguments, "--json"]) == ends
    return json.loads(capsys.readouterr().out)


class TestCheck:
    def test_a_fault_has_file_line_column_field_and_the_way_out(self, place: Path, capsys: Output) -> None:
        (place / "bad.yaml").write_text(HEAD + "spec:\n  rules:\n    setUid: {}\n    tests: {minimum: 0}\n")
        (place / "good.yaml").write_text(EVERYTHING)
        assert main(["policy", "check", "bad.yaml", "good.yaml"]) == 1
        shown = capsys.readouterr()
        assert shown.err.splitlines() == [
            "bad.yaml:6:5: spec.rules.setUid: unknown key (did you mean 'setuid'?)",
            "bad.yaml:7:13: spec.rules.tests.minimum: input should be greater than or equal to 1 (found 0)",
        ]
        assert f"good.yaml: valid, everything 1, {len(RULES)} rules and 1 custom rule" in shown.out
        assert main(["policy", "check", "good.yaml"]) == 0

    def test_a_custom_rule_with_a_typo_has_a_place_too(self, place: Path, capsys: Output) -> None:
        (place / "bad.yaml").write_text(EVERYTHING.replace("facts.packages.all", "facts.pakages.all"))
        assert main(["policy", "check", "bad.yaml"]) == 1
        line = EVERYTHING.splitlines().index(next(one for one in EVERYTHING.splitlines() if "expression" in one)) + 1
        assert capsys.readouterr().err.startswith(f"bad.yaml:{line}:7: spec.custom[0].expression: the rule no-perl: ")

    def test_machines_get_the_same(self, place: Path, capsys: Output) -> None:
        (place / "bad.yaml").write_text(HEAD + "spec: {rulez: {}}\n")
        (found,) = told(capsys, "check", "bad.yaml", ends=1)["files"]
        assert found["valid"] is False
        assert (found["errors"][0]["field"], found["errors"][0]["line"]) == ("spec.rulez", 4)

    def test_a_file_that_is_not_there(self, capsys: Output) -> None:
        assert main(["policy", "check", "nowhere.yaml"]) == 1
        assert "cannot read nowhere.yaml: No such file or directory (check the path)" in capsys.readouterr().err


class TestRules:
    def test_are_listed_and_told_of_without_a_service(self, capsys: Output) -> None:
        assert main(["policy", "rules"]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == list(RULES)
        for name in RULES:
            assert main(["policy", "rules", name]) == 0
            assert f"docs/policy/rules/{name}.md" in capsys.readouterr().out

    def test_a_typo_is_told_with_the_nearest(self, capsys: Output) -> None:
        assert main(["policy", "rules", "setUid"]) == 1
        assert "no rule is named 'setUid' (did you mean 'setuid'?)" in capsys.readouterr().err


class TestShow:
    def test_the_services_policy(self, api: Api, capsys: Output) -> None:
        found = told(capsys, "show")
        assert OrganisationPolicy.model_validate(found["document"]) == DEFAULT
        assert main(["policy", "show"]) == 0
        shown = capsys.readouterr().out
        assert "policy     default 1, sha256:" in shown
        assert "always judged" in shown

    def test_of_a_recipe_of_the_catalogue_and_of_a_file(self, api: Api, place: Path, capsys: Output) -> None:
        assert told(capsys, "show", "--recipe", "web")["recipe"] == "web"
        text = RECIPE.replace("NAME", "mine").replace("POLICY", "{maximumSeverity: low, rules: {tests: {}}}")
        (place / "mine.yaml").write_text(text)
        rules = {one["rule"]: one for one in told(capsys, "show", "--recipe", "mine.yaml")["rules"]}
        assert rules["vulnerabilities"]["sources"]["maximumSeverity"] == "recipe"
        assert rules["tests"]["source"] == "recipe"

    def test_of_files_needs_no_service(self, place: Path, capsys: Output) -> None:
        (place / "ours.yaml").write_text(EVERYTHING)
        (place / "mine.yaml").write_text(RECIPE.replace("NAME", "mine").replace("POLICY", "{}"))
        found = told(capsys, "show", "--policy", "ours.yaml", "--recipe", "mine.yaml")
        assert (found["name"], found["recipe"]) == ("everything", "mine")
        assert main(["policy", "show", "--policy", "ours.yaml", "--recipe", "web"]) == 64

    def test_an_unknown_recipe(self, api: Api, capsys: Output) -> None:
        assert main(["policy", "show", "--recipe", "weeb"]) == 1
        assert "did you mean 'web'?" in capsys.readouterr().err

    @pytest.mark.parametrize("text", [EVERYTHING, HEAD, *(path.read_text() for path in SHIPPED)])
    def test_adds_up_to_what_the_gate_judges_by(self, text: str) -> None:
        organisation = read_policy(text)
        for name, own in (("app", None), ("pay-web", Policy()), ("x", Policy(ignore_unfixed=True))):
            demanded = organisation.demands_of(name)
            told = policy_in_force(organisation, name, own)
            whole = demanded if own is None else demanded.tightened(own.demands)
            assert {one.rule: one.parameters for one in told.rules} == whole.told()
            assert [sorted(one.sources) for one in told.rules] == [sorted(one.parameters) for one in told.rules]
        assert OrganisationPolicy.model_validate(document_of(organisation)) == organisation


@pytest.fixture
def ours(place: Path) -> str:
    (place / "ours.yaml").write_text(EVERYTHING)
    return "ours.yaml"


class TestFiles:
    """Facts in a file, and no service anywhere."""

    def test_that_pass(self, place: Path, ours: str, capsys: Output) -> None:
        (place / "facts.json").write_bytes(facts().to_bytes())
        assert main(["policy", "test", "--policy", ours, "facts.json"]) == 0
        shown = capsys.readouterr().out
        assert shown.splitlines()[-1] == "app: would pass the gate"
        assert "exceptions  not counted; a file is judged without those of the service" in shown
        assert "its own policy is not known" in shown

    def test_that_fail_in_every_rule(self, place: Path, ours: str, capsys: Output) -> None:
        (place / "facts.json").write_bytes(hopeless().to_bytes())
        assert main(["policy", "test", "--policy", ours, "facts.json"]) == 2
        shown = capsys.readouterr().out
        for name in [*RULES, "custom.no-perl"]:
            assert f"[{name}]" in shown
        assert "FAILED  No Perl  [custom.no-perl]" in shown
        assert "to pass: take perl out of spec.packages" in shown
        assert shown.splitlines()[-1] == f"app: would be stopped at the gate: {len(RULES) + 1} rules fail"

    def test_of_several_are_a_line_each(self, place: Path, ours: str, capsys: Output) -> None:
        (place / "a.json").write_bytes(facts().to_bytes())
        (place / "b.json").write_bytes(facts(tests=(), recipe="b").to_bytes())
        assert main(["policy", "test", "--policy", ours, "a.json", "b.json"]) == 2
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert lines[1:3] == [["passes", "app", "a.json"], ["FAILS", "b", "b.json", "tests"]]
        assert lines[3] == ["1", "of", "2", "would", "pass"]

    def test_with_a_recipes_own_policy(self, place: Path, capsys: Output) -> None:
        (place / "loose.yaml").write_text(HEAD)
        (place / "mine.yaml").write_text(RECIPE.replace("NAME", "mine").replace("POLICY", "{rules: {tests: {}}}"))
        (place / "facts.json").write_bytes(facts(tests=()).to_bytes())
        assert main(["policy", "test", "--policy", "loose.yaml", "facts.json"]) == 0
        assert main(["policy", "test", "--policy", "loose.yaml", "--recipe", "mine.yaml", "facts.json"]) == 2

    def test_that_hold_none_are_told(self, place: Path, ours: str, capsys: Output) -> None:
        (place / "facts.json").write_text("{}")
        assert main(["policy", "test", "--policy", ours, "facts.json"]) == 1
        assert "holds no facts of this version" in capsys.readouterr().err
        assert main(["policy", "test", "--policy", ours, "nowhere.json"]) == 1

    def test_without_a_policy_the_services_is_asked_for(self, place: Path, capsys: Output) -> None:
        (place / "facts.json").write_bytes(facts().to_bytes())
        assert main(["policy", "test", "facts.json"]) == 1
        assert "does not answer" in capsys.readouterr().err

    def test_a_policy_at_fault_judges_nothing(self, place: Path, capsys: Output) -> None:
        (place / "bad.yaml").write_text(HEAD + "spec: {rulez: {}}\n")
        (place / "facts.json").write_bytes(facts().to_bytes())
        assert main(["policy", "test", "--policy", "bad.yaml", "facts.json"]) == 1
        assert "bad.yaml: line 4, column 8: spec.rulez: unknown key (did you mean 'rules'?)" in capsys.readouterr().err


class TestStoredScans:
    def test_are_judged_by_build_and_by_image(self, api: Api, ours: str, capsys: Output) -> None:
        build = scanned(api.database, facts(recipe="one"), image=digest("1"))
        for subject in (build, digest("1"), f"127.0.0.1:5000/golden/one@{digest('1')}"):
            (found,) = told(capsys, "test", "--policy", ours, subject)["subjects"]
            assert (found["verdict"]["passed"], found["verdict"]["build"]) == (True, build)
        assert main(["policy", "test", "--policy", ours, build]) == 0
        shown = capsys.readouterr().out
        assert "exceptions  counted as of 2026-11-01 00:00 UTC" in shown
        assert "recipe      judged by its own policy too, as it was built" in shown

    def test_what_newly_fails_and_what_a_recipe_would_be_refused_for(
        self, api: Api, place: Path, capsys: Output
    ) -> None:
        (place / "new.yaml").write_text(HEAD + "spec: {rules: {tests: {}, vulnerabilities: {maximumSeverity: low}}}\n")
        build = scanned(api.database, facts(tests=()), policy="{maximumSeverity: high}", image=digest("2"))
        assert main(["policy", "test", "--policy", "new.yaml", build]) == 2
        shown = capsys.readouterr().out
        assert "newly fails tests" in shown
        assert "refused     spec.policy.maximumSeverity: high is looser than low" in shown

    def test_without_a_file_the_policy_in_force_judges(self, api: Api, capsys: Output) -> None:
        build = scanned(api.database, facts(), image=digest("3"))
        assert main(["policy", "test", build]) == 0
        assert "policy      default 1, " in capsys.readouterr().out

    def test_a_policy_at_fault_and_a_tag_are_told(self, api: Api, place: Path, capsys: Output) -> None:
        assert main(["policy", "test", "127.0.0.1:5000/golden/one:latest"]) == 64
        assert main(["policy", "test"]) == 64
        assert main(["policy", "test", "--all-released", digest("1")]) == 64

    def test_facts_can_be_taken_away_and_judged_elsewhere(
        self, api: Api, place: Path, ours: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scanned(api.database, facts(recipe="taken"), image=digest("4"))
        assert main(["policy", "facts", digest("4"), "-o", "facts.json"]) == 0
        assert (place / "facts.json").read_bytes() == facts(recipe="taken").to_bytes()
        monkeypatch.setenv("GOLDSMITH_URL", "http://127.0.0.1:1")
        assert main(["policy", "test", "--policy", ours, "facts.json"]) == 0


def test_all_released_images_are_a_line_each_with_what_newly_fails(
    tmp_path_factory: pytest.TempPathFactory, place: Path, ours: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_api(tmp_path_factory.mktemp("released")) as api:
        for name, value in api.environment.items():
            monkeypatch.setenv(name, value)
        assert main(["policy", "test", "--policy", ours, "--all-released"]) == 0
        assert capsys.readouterr().out == "0 of 0 would pass\n"
        scanned(api.database, facts(recipe="good"), image=digest("1"))
        scanned(api.database, facts(recipe="untested", tests=()), image=digest("2"))
        scanned(api.database, facts(recipe="stopped", tests=()))
        assert main(["policy", "test", "--policy", ours, "--all-released"]) == 2
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert lines[1:] == [
            ["FAILS", "untested", digest("2"), "tests"],
            ["passes", "good", digest("1")],
            ["1", "of", "2", "would", "pass"],
        ]
        scanned(api.database, facts(recipe="old"), image=digest("3"), keeps_facts=False)
        found = told(capsys, "test", "--policy", ours, "--all-released", ends=2)["subjects"]
        assert {one["subject"]: "problem" in one for one in found} == {
            digest("1"): False, digest("2"): False, digest("3"): True,
        }  # fmt: skip
        assert told(capsys, "test", digest("1"), "--policy", ours)["subjects"][0]["newlyFailing"] == []
        assert main(["policy", "test", digest("3")]) == 1
        assert f"{digest('3')} was not judged: build " in capsys.readouterr().err


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.name)
def test_a_policy_that_ships_is_valid_and_an_ordinary_image_meets_it(file: Path, place: Path, capsys: Output) -> None:
    assert main(["policy", "check", str(file)]) == 0
    (place / "facts.json").write_bytes(facts().to_bytes())
    assert main(["policy", "test", "--policy", str(file), "facts.json"]) == 0
    (place / "facts.json").write_bytes(hopeless().to_bytes())
    assert main(["policy", "test", "--policy", str(file), "facts.json"]) == 2


def test_the_recipes_that_ship_ask_for_nothing_that_the_strict_policy_refuses() -> None:
    recipes = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
    assert len(recipes) >= 3
    for path in recipes:
        recipe = read_recipe_file(path)
        refuse_looser(read_policy(SHIPPED[0].read_text()), recipe.metadata.name, recipe.spec.policy)


def test_policies_ship() -> None:
    assert [path.name for path in SHIPPED] == ["strict.yaml"]
