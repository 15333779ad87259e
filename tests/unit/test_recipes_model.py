"""The rules of a recipe: each is told by field, line and column, in the writer's terms, with the way out."""

from __future__ import annotations

import gc
import json
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import Fault
from builder.recipes.document import RecipeInvalid
from builder.recipes.model import Recipe
from builder.recipes.reading import canonical_json, read_recipe, recipe_digest, recipe_from_data
from builder.recipes.schema import recipe_schema


def data(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "goldsmith/v1",
        "kind": "Image",
        "metadata": {"name": "x"},
        "spec": {"base": {"recipe": "debian"}, "publish": {"repository": "golden/x"}, **spec},
    }


def recipe(**spec: Any) -> Recipe:
    return recipe_from_data(data(**spec))


def faults(text: str) -> list[Fault]:
    with pytest.raises(RecipeInvalid) as caught:
        read_recipe(text)
    return caught.value.errors


def fault_of(**spec: Any) -> Fault:
    with pytest.raises(RecipeInvalid) as caught:
        recipe(**spec)
    return caught.value.errors[0]


HEAD = """\
apiVersion: goldsmith/v1
kind: Image
metadata:
  name: x
spec:
  base:
    recipe: debian
  publish:
    repository: golden/x
"""


@pytest.mark.parametrize(
    ("more", "line", "column", "field", "message", "hint"),
    [
        ("  pakages: [a]", 10, 3, "spec.pakages", "unknown key", "did you mean 'packages'?"),
        ("  xyz: 1", 10, 3, "spec.xyz", "unknown key", "allowed here: base, command, entrypoint"),
        ("  packages: [Nginx]", 10, 14, "spec.packages[0]", "'Nginx' does not match", "a Debian package name"),
        ("  packages: nginx", 10, 3, "spec.packages", "should be a valid list (found 'nginx')", None),
        ("  packages:\n    - a1\n    - 7", 12, 7, "spec.packages[1]", "should be a valid string (found 7)", None),
        ("  files:\n  - path: /a\n    content: b\n    mode: 644", 13, 5, "spec.files[0].mode", "octal", "'0644'"),
        ("  files:\n  - path: /a\n    content: b\n    mode: '999'", 13, 5, "spec.files[0].mode", "not match", "quotes"),
        ("  files:\n  - path: /a", 11, 5, "spec.files[0]", "exactly one of 'content', 'contentBase64'", None),
        ("  files: [{path: a, content: b}]", 10, 12, "spec.files[0].path", "does not match", None),
        ("  files: [{path: /a, content: b, owner: 'a b'}]", 10, 34, "spec.files[0].owner", "not match", "uid:gid"),
        ("  environment: {1A: x}", 10, 17, "spec.environment.1A", "'1A' does not match", None),
        ("  environment: {A: 1}", 10, 17, "spec.environment.A", "should be a valid string (found 1)", None),
        ("  labels: {A B: x}", 10, 12, "spec.labels.A B", "'A B' does not match", None),
        ("  tests: [{htp: {port: 80}}]", 10, 12, "spec.tests[0].htp", "unknown key", "did you mean 'http'?"),
        ("  tests: [{command: [a], exitCode: x}]", 10, 26, "spec.tests[0].exitCode", "valid integer", None),
        ("  tests: [{http: {port: 99999}}]", 10, 19, "spec.tests[0].http.port", "less than or equal to 65535", None),
        ("  tests: [{test:port: 80}]", 10, 12, "spec.tests[0].test:port", "unknown key", "allowed here"),
        ("  run: [ls]", 10, 9, "spec.run[0]", "should be a valid list", None),
        ("  run: [{shel: ls}]", 10, 10, "spec.run[0].shel", "unknown key", "did you mean 'shell'?"),
        ("  run: [{comand: [ls]}]", 10, 10, "spec.run[0].comand", "unknown key", "did you mean 'command'?"),
        ("  run:\n  - [a]\n  - shell: b\n    newtork: true", 13, 5, "spec.run[1].newtork", "unknown key",
         "did you mean 'network'?"),
        ("  run: [{command: [a], xyz: 1}]", 10, 24, "spec.run[0].xyz", "unknown key",
         "command, network, secrets, shell"),
        ("  run: [{command: ls}]", 10, 10, "spec.run[0].command", "should be a valid list (found 'ls')", None),
        ("  run: [{command: [a, 7]}]", 10, 23, "spec.run[0].command[1]", "should be a valid string (found 7)", None),
        ("  run: [{command: [a], shell: b}]", 10, 9, "spec.run[0]", "exactly one of 'command' and 'shell'", None),
        ("  run: [[a], {network: true}]", 10, 14, "spec.run[1]", "exactly one of 'command' and 'shell'", None),
        ("  run: [{shell: a, network: yes}]", 10, 20, "spec.run[0].network", "must be true or false, not 'yes'", None),
        ("  step:mapping: 1", 10, 3, "spec.step:mapping", "unknown key", "allowed here"),
        ("  step:shell: 1", 10, 3, "spec.step:shell", "unknown key", "allowed here"),
        ("  ports: [8080]", 10, 11, "spec.ports[0]", "should be a valid string", None),
        ("  policy: {maximumSeverity: some}", 10, 12, "spec.policy.maximumSeverity", "must be 'none', 'low'", None),
        ("  user: web server", 10, 3, "spec.user", "does not match", None),
        ("  stopSignal: TERM", 10, 3, "spec.stopSignal", "does not match", "such as SIGTERM"),
        ("  '[key]': 1", 10, 3, "spec.[key]", "unknown key", None),
        ("test:command: 1", 10, 1, "test:command", "unknown key", "allowed here: apiVersion"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_place_field_rule_and_way_out(
    more: str, line: int, column: int, field: str, message: str, hint: str | None
) -> None:
    found = next(fault for fault in faults(HEAD + more) if fault.field == field and message in fault.message)
    assert (found.line, found.column) == (line, column)
    assert hint is None or hint in (found.hint or "")


def test_what_is_missing_is_placed_at_its_parent() -> None:
    found = {
        fault.field: fault for fault in faults("apiVersion: goldsmith/v1\nkind: Image\nmetadata: {}\nspec:\n  run: []")
    }
    assert found["metadata.name"].message == "is required"
    assert (found["metadata.name"].line, found["metadata.name"].column) == (3, 1)
    assert (found["spec.base"].line, found["spec.publish"].line) == (4, 4)


def test_all_faults_are_told_at_once_in_the_order_of_lines() -> None:
    found = faults(HEAD + "  user: a b\n  ports: [x]\n  bad: 1\n")
    assert [fault.line for fault in found] == [10, 11, 12]


def test_a_thousand_faults_are_told_in_few_words() -> None:
    with pytest.raises(RecipeInvalid) as caught:
        recipe(packages=["-"] * 1000)
    assert len(caught.value.errors) == 20
    assert "; and 997 more" in caught.value.detail
    assert len(caught.value.detail) < 2000


def test_a_long_value_is_not_repeated_whole() -> None:
    assert len(fault_of(user="x" * 5000).message) < 300


@pytest.mark.parametrize("name", [
    "-y", "--purge", "-oAPT::Update::Pre-Invoke::=id", "nginx-", "nginx=1.0-", "nginx=1.0+", "nginx=-1",
    "a b", "a;b", "a\n", "a/b", "a:amd64", "./a.deb", "a", "", "?essential", "~n.", "a*", "A1", "nginx=",
    "nginx=a", "nginx^", "nginx/stable",
])  # fmt: skip
def test_a_package_name_is_a_name_and_never_an_option_path_or_pattern(name: str) -> None:
    assert fault_of(packages=[name]).field == "spec.packages[0]"


@pytest.mark.parametrize("name", ["g++", "libstdc++6", "0ad", "nginx=1.22.1-9+deb12u1", "vim=2:9.1.1230-2", "a1=1~rc1"])
def test_debians_own_names_and_versions_are_accepted(name: str) -> None:
    assert recipe(packages=[name]).spec.packages == [name]


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"base": {"recipe": "a", "debian": {"suite": "trixie"}}}, "spec.base", "exactly one of"),
        ({"base": {}}, "spec.base", "exactly one of"),
        ({"base": {"image": "debian:12"}}, "spec.base.image", "does not match"),
        ({"base": {"debian": {"suite": "trixie; rm -rf /"}}}, "spec.base.debian.suite", "does not match"),
        ({"base": {"debian": {"suite": "tr\nixie"}}}, "spec.base.debian.suite", "does not match"),
        ({"base": {"debian": {"suite": "sid", "components": ["main [trusted=yes]"]}}}, "spec.base.debian.components[0]",
         "does not match"),
        ({"files": [{"path": "/a/../b", "content": ""}]}, "spec.files[0].path", "write the path plainly"),
        ({"files": [{"path": "/a/./b", "content": ""}]}, "spec.files[0].path", "write the path plainly"),
        ({"files": [{"path": "/a//b", "content": ""}]}, "spec.files[0].path", "write the path plainly"),
        ({"files": [{"path": "/a/", "content": ""}]}, "spec.files[0].path", "write the path plainly"),
        ({"files": [{"path": "/", "content": ""}]}, "spec.files[0]", "'/' is not a file"),
        ({"files": [{"path": "/a\nb", "content": ""}]}, "spec.files[0].path", "does not match"),
        ({"files": [{"path": "/a", "contentBase64": "A"}]}, "spec.files[0].contentBase64", "not base64"),
        ({"files": [{"path": "/a", "contentBase64": "QUI"}]}, "spec.files[0].contentBase64", "not base64"),
        ({"files": [{"path": "/a", "content": "x" * 131073}]}, "spec.files[0].content", "at most 131072"),
        ({"files": [{"path": "/a", "source": "../x"}]}, "spec.files[0]", "'..' is not allowed"),
        ({"files": [{"path": "/a", "source": "/etc/passwd"}]}, "spec.files[0].source", "does not match"),
        ({"user": "4294967295"}, "spec.user", "at most 4294967294"),
        ({"files": [{"path": "/a", "content": "", "owner": "0:9999999999"}]}, "spec.files[0].owner", "at most"),
        ({"users": [{"name": "a", "uid": 0}]}, "spec.users[0].uid", "greater than or equal to 1"),
        ({"users": [{"name": "a", "uid": 2**32 - 1}]}, "spec.users[0].uid", "less than or equal"),
        ({"users": [{"name": "a", "uid": 5, "home": "/x:/bin/sh"}]}, "spec.users[0].home", "':' separates"),
        ({"users": [{"name": "a", "uid": 5, "shell": "/bin/sh:x"}]}, "spec.users[0].shell", "':' separates"),
        ({"users": [{"name": "a:b", "uid": 5}]}, "spec.users[0].name", "does not match"),
        ({"ports": ["65536/tcp"]}, "spec.ports[0]", "at most 65535"),
        ({"ports": ["0"]}, "spec.ports[0]", "does not match"),
        ({"environment": {"A": "a\x1b[31m"}}, "spec.environment.A", "control characters"),
        ({"environment": {"A": "a\x9b31m"}}, "spec.environment.A", "control characters"),
        ({"command": ["a\x00"]}, "spec.command[0]", "control characters"),
        ({"run": [[]]}, "spec.run[0]", "at least 1 item"),
        ({"run": [{"shell": ""}]}, "spec.run[0].shell", "at least 1 character"),
        ({"tests": [{"command": ["a"], "stdout": {"matches": "("}}]}, "spec.tests[0].stdout", "not a regular"),
        ({"tests": [{"command": ["a"], "stdout": {"matches": "a{99999999999}"}}]}, "spec.tests[0].stdout", "too large"),
        ({"tests": [{"command": ["a"], "stderr": {"matches": "(" * 2000 + ")" * 2000}}]}, "spec.tests[0].stderr",
         "nested too deeply"),
        ({"tests": [{"file": "/a", "owner": "root"}]}, "spec.tests[0].owner", "does not match"),
        ({"tests": [{"http": {"port": 80, "path": "/é"}}]}, "spec.tests[0].http.path", "does not match"),
        ({"tests": [{"http": {"port": 80, "path": "/a b"}}]}, "spec.tests[0].http.path", "does not match"),
        ({"tests": [{"port": True}]}, "spec.tests[0].port", "valid integer"),
        ({"tests": [None]}, "spec.tests[0]", "must be a mapping"),
        ({"publish": {"repository": "staging/x"}}, "spec.publish", "Goldsmith's own"),
        ({"publish": {"repository": "goldsmith"}}, "spec.publish", "Goldsmith's own"),
        ({"publish": {"repository": "a/../b"}}, "spec.publish.repository", "does not match"),
        ({"publish": {"repository": "x", "tags": ["sha256-" + "a" * 64 + ".sig"]}}, "spec.publish",
         "belong to the referrers"),
        ({"publish": {"repository": "x", "tags": ["a/b"]}}, "spec.publish.tags[0]", "does not match"),
    ],
)  # fmt: skip
def test_what_would_break_a_build_is_refused_before_it(spec: dict[str, Any], field: str, message: str) -> None:
    found = fault_of(**spec)
    assert found.field == field
    assert message in found.message


def test_everything_that_a_recipe_can_say_is_accepted() -> None:
    read = recipe(
        base={"debian": {"suite": "trixie", "components": ["main", "contrib"], "architecture": "arm64"}},
        packages=["nginx-light"],
        files=[
            {"path": "/etc/a", "content": "é\n", "owner": "root:root", "mode": "0600"},
            {"path": "/etc/b", "contentBase64": "AAEC/w=="},
        ],
        users=[{"name": "web", "uid": 10001, "gid": 7, "home": "/srv", "shell": "/bin/sh"}],
        run=[["ldconfig"], {"shell": "true\n"}, {"command": ["curl", "-v"], "network": True}],
        environment={"LANG": "C.UTF-8"},
        entrypoint=["/usr/sbin/nginx"],
        command=["-g", "daemon off;"],
        workingDirectory="/srv",
        user="web",
        ports=["8080", "53/udp"],
        labels={"org.example/team": "a"},
        stopSignal="SIGRTMIN+3",
        tests=[
            {"command": ["nginx", "-t"], "stderr": {"matches": r"test is \w+"}},
            {"file": "/etc/a", "owner": "0:0", "mode": "0600", "contains": "é"},
            {"port": 8080, "withinSeconds": 3},
            {"http": {"port": 8080, "path": "/?a=%20", "status": 404}},
        ],
    )
    assert read.spec.users[0].uid == 10001
    assert read_recipe(canonical_json(read)) == read


def test_json_and_yaml_of_the_same_recipe_are_the_same_recipe() -> None:
    assert recipe_digest(read_recipe(HEAD)) == recipe_digest(recipe())


@pytest.mark.parametrize("text", ["a\x85  b", "a \u2028 b", "\u2029", "\ufeffx", "a\x9bb", "\uffff", "\t\\\"'\n", "😀"])
def test_text_of_a_request_is_kept_character_by_character(text: str) -> None:
    read = recipe(files=[{"path": "/a", "content": text}])
    assert read.spec.files[0].content == text


@pytest.mark.parametrize(
    "value",
    [None, 7, [], "x", float("nan"), {"a": 10**5000}, {"apiVersion": "\ud800"}, json.loads("[" * 900 + "]" * 900)],
)
def test_data_of_a_request_that_is_no_recipe_is_refused(value: Any) -> None:
    with pytest.raises(RecipeInvalid) as caught:
        recipe_from_data(value)
    assert caught.value.errors


def test_data_nested_without_end_is_refused() -> None:
    nested: dict[str, Any] = {}
    for _ in range(100_000):
        nested = {"a": nested}
    with pytest.raises(RecipeInvalid, match="nested"):
        recipe_from_data(nested)


_KEYS = st.sampled_from([
    "apiVersion", "kind", "metadata", "spec", "name", "base", "debian", "recipe", "image", "suite", "packages", "files",
    "path", "content", "contentBase64", "source", "users", "run", "shell", "tests", "command", "http", "port",
    "matches", "publish", "repository", "tags", "policy", "environment", "labels", "test:command", "step:mapping",
    "network", "[key]", "hardening",
])  # fmt: skip
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=5), inner, max_size=4),
    max_leaves=25,
)


@given(_ANY)
def test_no_data_breaks_the_reader(value: Any) -> None:
    with suppress(RecipeInvalid):
        recipe_from_data(value)


@given(st.dictionaries(_KEYS, _ANY, max_size=4))
def test_no_spec_breaks_the_reader(value: dict[str, Any]) -> None:
    with suppress(RecipeInvalid):
        recipe(**value)


@given(
    st.permutations(["apiVersion", "kind", "metadata", "spec"]), st.permutations(["base", "publish", "user", "labels"])
)
def test_the_canonical_form_does_not_know_the_order_of_keys(outer: list[str], inner: list[str]) -> None:
    whole = data(user="0:0", labels={"b": "1", "a": "2"})
    spec = {key: whole["spec"][key] for key in inner}
    mixed = {key: spec if key == "spec" else whole[key] for key in outer}
    assert canonical_json(recipe_from_data(mixed)) == canonical_json(recipe_from_data(whole))


def test_what_is_left_out_and_what_is_said_as_the_default_are_one_recipe() -> None:
    assert recipe_digest(recipe(hardening={"removeSetuid": True}, packages=[])) == recipe_digest(recipe())


@pytest.mark.parametrize("change", [
    {"packages": ["hello"]}, {"user": "1"}, {"environment": {"A": ""}}, {"policy": {"ignoreUnfixed": True}},
    {"hardening": {"removeSetuid": False}}, {"publish": {"repository": "golden/x", "tags": []}},
    {"files": [{"path": "/a", "content": ""}]}, {"run": [["true"]]}, {"run": [{"command": ["true"], "network": True}]},
])  # fmt: skip
def test_the_digest_changes_with_the_content(change: dict[str, Any]) -> None:
    assert recipe_digest(recipe(**change)) != recipe_digest(recipe())


def test_a_step_without_a_network_is_the_recipe_it_was_before_there_were_any() -> None:
    assert recipe_digest(recipe(run=[{"shell": "a", "network": False}])) == recipe_digest(recipe(run=[{"shell": "a"}]))
    assert b"network" not in canonical_json(recipe(run=[["a"], {"shell": "a"}, {"command": ["a"]}]))


def test_one_step_with_a_network_makes_the_whole_build_one_that_is_not_hermetic() -> None:
    without: list[Any] = [["a"], {"shell": "b"}, {"command": ["c"], "network": False}]
    assert recipe(run=without).spec.hermetic
    for step in ({"shell": "b", "network": True}, {"command": ["c"], "network": True}):
        spec = recipe(run=[*without, step]).spec
        assert (spec.hermetic, spec.network_steps) == (False, (3,))


def test_the_order_of_steps_files_and_packages_is_content() -> None:
    assert recipe_digest(recipe(packages=["aa", "bb"])) != recipe_digest(recipe(packages=["bb", "aa"]))


class TestSchema:
    validator = jsonschema.Draft202012Validator(recipe_schema())

    def test_is_a_schema(self) -> None:
        jsonschema.Draft202012Validator.check_schema(recipe_schema())

    @pytest.mark.parametrize("spec", [
        {}, {"base": {"debian": {"suite": "trixie"}}}, {"run": [["a"], {"shell": "b"}]},
        {"run": [{"command": ["a"], "network": True}, {"shell": "b", "network": True}]},
        {"tests": [{"command": ["a"]}, {"file": "/a"}, {"port": 1}, {"http": {"port": 1}}]},
        {"files": [{"path": "/a", "source": "b/c"}]}, {"environment": {"A": "b"}, "labels": {"a": "b"}},
    ])  # fmt: skip
    def test_accepts_what_the_model_accepts(self, spec: dict[str, Any]) -> None:
        recipe(**spec)
        self.validator.validate(data(**spec))

    @pytest.mark.parametrize("spec", [
        {"pakages": []}, {"packages": ["-y"]}, {"packages": "a"}, {"files": [{"path": "a", "content": ""}]},
        {"tests": [{"htp": {}}]}, {"ports": ["0"]}, {"publish": {"repository": "A"}},
        {"policy": {"maximumSeverity": "any"}}, {"users": [{"name": "a", "uid": 0}]},
        {"run": [{"shell": "a", "newtork": True}]}, {"run": [{"shell": "a", "network": "yes"}]},
    ])  # fmt: skip
    def test_refuses_what_an_editor_should_mark(self, spec: dict[str, Any]) -> None:
        assert not self.validator.is_valid(data(**spec))
        fault_of(**spec)

    def test_the_published_one_is_the_models(self) -> None:
        published = json.loads((Path(__file__).parents[2] / "docs/recipe.schema.json").read_text("utf-8"))
        assert published == recipe_schema(), "make it anew: python -m builder.recipes.schema > docs/recipe.schema.json"


def test_few_recipes_are_kept_alive_whoever_sends_them() -> None:
    made = [recipe(packages=[f"p{number}"]) for number in range(40)]
    assert len({recipe_digest(one) for one in made}) == 40
    still = [weakref.ref(one) for one in made]
    del made
    gc.collect()
    assert sum(one() is not None for one in still) <= 8
