"""What a request fills in is data: it is checked, it stands where the recipe wants it, and it changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.recipes.document import RecipeInvalid
from builder.recipes.parameters import ParameterInvalid, escaped
from builder.recipes.reading import canonical_json, fill_from_data, fill_recipe, read_recipe

HEAD = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: web}
"""
TAIL = "  base: {debian: {suite: trixie}}\n  publish: {repository: golden/web}\n"


def text(parameters: str, spec: str = "", head: str = HEAD, tail: str = TAIL) -> str:
    return f"{head}parameters:\n  {parameters}\nspec:\n  {spec}\n{tail}"


def filled(parameters: str, spec: str, given: dict[str, Any] | None = None) -> Any:
    return fill_recipe(text(parameters, spec), given or {}).recipe.spec


def fault(written: str, **given: Any) -> str:
    with pytest.raises(RecipeInvalid) as told:
        fill_recipe(written, given)
    return str(told.value.errors[0])


class TestValues:
    @pytest.mark.parametrize(
        ("declared", "given", "value"),
        [
            ("{default: a}", "b", "b"),
            ("{type: integer, default: 1}", "-7", -7),
            ("{type: integer, default: 1}", 7, 7),
            ("{type: boolean, default: true}", "false", False),
            ("{type: boolean, default: true}", True, True),
            ("{default: a, pattern: '.*'}", "$(id) '\"", "$(id) '\""),
            ("{default: '', allowed: ['', x]}", "x", "x"),
        ],
    )
    def test_come_as_what_they_are_or_as_text(self, declared: str, given: object, value: object) -> None:
        found = fill_recipe(text(f"it: {declared}"), {"it": given}).values["it"]
        assert (found, type(found)) == (value, type(value))

    @pytest.mark.parametrize(
        ("declared", "given"),
        [
            *[("{default: a}", bad) for bad in
              ("", "-rf", "$(id)", "`id`", "a;b", "a&b", "a\nb", "a'b", 'a"b', "a\\b", "${x}", "a" * 1025, 7, True,
               None)],
            *[("{default: a, pattern: '.*'}", bad) for bad in ("a\nb", "a\x00b", "a" * 1025)],
            *[("{default: '12', pattern: '[0-9]+'}", bad) for bad in ("12a", "a12", "12\n", "")],
            *[("{type: integer, default: 1, minimum: 0, maximum: 9}", bad) for bad in
              (10, -1, "10", "1.0", "1e0", "0x1", "01", "", " 1", "١", 1.0, True, 10**15, [1])],
            *[("{type: boolean, default: true}", bad) for bad in ("yes", "True", 1, 0, "", None)],
            *[("{type: integer, default: 1, allowed: [1, 2]}", bad) for bad in (3, True)],
        ],
    )  # fmt: skip
    def test_are_refused_by_name(self, declared: str, given: object) -> None:
        with pytest.raises(ParameterInvalid) as told:
            fill_recipe(text(f"it: {declared}"), {"it": given})
        assert [one.field for one in told.value.errors] == ["parameters.it"]

    def test_that_a_recipe_does_not_declare_are_refused(self) -> None:
        for written in (text("it: {default: a}"), f"{HEAD}spec:\n{TAIL}"):
            with pytest.raises(ParameterInvalid, match=r"parameters\.other: unknown parameter"):
                fill_recipe(written, {"other": "x"})

    def test_take_no_time_to_check_whatever_the_pattern(self) -> None:
        with pytest.raises(ParameterInvalid):
            fill_recipe(text("it: {default: a, pattern: '(a+)+'}"), {"it": "a" * 1000 + "!"})


class TestDeclarations:
    @pytest.mark.parametrize(
        ("declared", "why"),
        [
            ("it: {}", "it.default: is required"),
            ("it: {default: 1}", "must be a text"),
            ("it: {type: integer, default: '1'}", "is written as a text"),
            ("it: {default: a b$}", "does not match"),
            ("it: {default: b, allowed: [a]}", "must be one of 'a'"),
            ("it: {default: a, pattern: '['}", "not a regular expression"),
            ("it: {default: a, pattern: '(?=a)a'}", "not a regular expression"),
            ("it: {default: a, minimum: 1}", "for an integer"),
            ("it: {type: integer, default: 1, pattern: x}", "for a string"),
            ("it: {type: number, default: 1}", "must be 'string', 'integer' or 'boolean'"),
            ("it: {default: a, defualt: b}", "unknown key (did you mean 'default'?)"),
            ("It: {default: a}", "does not match"),
            ("dbPassword: {default: a}", "sounds like a secret"),
            ("apiToken: {default: a}", "sounds like a secret"),
        ],
    )
    def test_that_cannot_be_are_refused_in_their_line(self, declared: str, why: str) -> None:
        told = fault(text(declared))
        assert why in told
        assert "line 5" in told


class TestFillingIn:
    def test_a_text_in_part_and_in_whole(self) -> None:
        spec = filled("v: {default: '3.13'}", 'packages: ["python${parameters.v}", tini]', {"v": "3.14"})
        assert spec.packages == ["python3.14", "tini"]

    def test_a_number_and_a_truth_value(self) -> None:
        declared = "n: {type: integer, default: 80}\n  b: {type: boolean, default: true}"
        written = (
            'tests: [{port: "${parameters.n}"}]\n  hardening: {removeSetuid: "${parameters.b}"}\n'
            '  environment: {A: "${parameters.n}/${parameters.b}"}'
        )
        spec = filled(declared, written, {"n": 81, "b": False})
        assert (spec.tests[0].port, spec.hardening.remove_setuid, spec.environment["A"]) == (81, False, "81/false")

    def test_the_same_whichever_way_it_came(self) -> None:
        written = text("v: {default: '1'}", 'environment: {A: "${parameters.v}"}')
        plain = f"{HEAD}spec:\n  environment: {{A: '2'}}\n{TAIL}"
        assert canonical_json(fill_recipe(written, {"v": "2"}).recipe) == canonical_json(read_recipe(plain))

    @given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=60))
    def test_whatever_the_value_it_is_one_text(self, value: str) -> None:
        spec = filled("v: {default: a, pattern: '.*'}",
                      'environment: {A: "${parameters.v}", B: "x${parameters.v}"}\n'
                      '  run: [[echo, "${parameters.v}"]]', {"v": value}) if value.isprintable() else None  # fmt: skip
        if spec is not None:
            assert spec.environment == {"A": value, "B": f"x{value}"}
            assert spec.run == [["echo", value]]

    def test_a_value_is_not_filled_in_again(self) -> None:
        spec = filled("v: {default: a, pattern: '.*'}", 'environment: {A: "${parameters.v}"}', {"v": "${parameters.v}"})
        assert spec.environment["A"] == "${parameters.v}"

    @given(st.text("$@{}.parmetsv", max_size=40) | st.just("${parameters.v}$${parameters.v"))
    def test_what_is_escaped_stays_as_it_was(self, written: str) -> None:
        data = {"apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": "web"},
                "parameters": {"v": {"default": "a"}},
                "spec": {"base": {"debian": {"suite": "trixie"}}, "publish": {"repository": "golden/web"},
                         "files": [{"path": "/a", "content": escaped(written)}]}}  # fmt: skip
        assert fill_from_data(data, {}).recipe.spec.files[0].content == written

    def test_without_declared_ones_a_text_is_a_text(self) -> None:
        spec = read_recipe(f"{HEAD}spec:\n  environment: {{A: '${{parameters.v}}'}}\n{TAIL}").spec
        assert spec.environment["A"] == "${parameters.v}"

    @pytest.mark.parametrize(
        ("spec", "field", "why"),
        [
            ('run: [{shell: "echo ${parameters.v}"}]', "spec.run[0].shell", "a script takes no parameter"),
            ("policy: {maximumSeverity: '${parameters.v}'}", "spec.policy.maximumSeverity", "takes no parameter"),
            ("environment: {'${parameters.v}': a}", "spec.environment.${parameters.v}", "a key takes no parameter"),
            ("environment: {A: '${parameters.w}'}", "spec.environment.A", "no parameter is named 'w'"),
            ("environment: {A: '${parameters.'}", "spec.environment.A", "is not closed"),
        ],
    )
    def test_where_it_does_not_belong_it_is_refused_in_its_line(self, spec: str, field: str, why: str) -> None:
        told = fault(text("v: {default: a}", spec))
        assert told.startswith("line 7, column")
        assert f"{field}: " in told
        assert why in told

    def test_who_it_is_and_where_it_goes_are_not_left_open(self) -> None:
        named = text("v: {default: web}", head=HEAD.replace("web", '"${parameters.v}"'))
        assert "metadata.name: takes no parameter" in fault(named)
        published = text("v: {default: web}", tail=TAIL.replace("golden/web", '"golden/${parameters.v}"'))
        assert "spec.publish.repository: takes no parameter" in fault(published)

    def test_many_make_no_giant(self) -> None:
        refers = "${parameters.v}" * 1000
        written = text("v: {default: a}", f'environment: {{A: "{refers}"}}')
        assert "larger than" in fault(written, v="a" * 1000)

    def test_what_the_rules_refuse_afterwards_names_the_parameter(self) -> None:
        told = fault(text("v: {default: a}", 'packages: ["${parameters.v}"]'), v="Not/A/Package")
        assert "spec.packages[0]" in told
        assert "the parameter 'v'" in told


class TestSize:
    @pytest.mark.parametrize("declared", ["{default: '', pattern: '.*'}", "{default: a, allowed: [a, b]}"])
    def test_of_a_value(self, declared: str) -> None:
        with pytest.raises(ParameterInvalid, match="has 1025 characters; 1024 are allowed"):
            filled(f"it: {declared}", "", {"it": "a" * 1025})

    def test_of_a_value_that_is_declared(self) -> None:
        assert "1024 are allowed" in fault(text(f"it: {{default: a, allowed: [a, {'b' * 1025}]}}"))

    def test_of_values_that_are_texts_of_their_own(self) -> None:
        many = ", ".join(f"K{index}: '${{parameters.it}}'" for index in range(300))
        written = text(f"it: {{default: {'a' * 1000}}}", f"environment: {{{many}}}")
        assert "larger than 262144 characters" in fault(written)


@pytest.mark.parametrize(("declared", "text"), [("integer, default: 8080", "8080"), ("boolean, default: true", "true")])
def test_a_number_or_truth_value_is_text_where_text_is_wanted(declared: str, text: str) -> None:
    spec = filled(f"it: {{type: {declared}}}", "environment: {IT: '${parameters.it}', THAT: 'a${parameters.it}'}")
    assert spec.environment == {"IT": text, "THAT": f"a{text}"}


def test_a_number_that_was_written_is_no_text_all_the_same() -> None:
    assert "string" in fault(text("it: {default: a}", "environment: {IT: 8080}"))


def test_what_is_no_such_text_is_told_with_its_parameter() -> None:
    told = fault(text("it: {type: integer, default: 1}", "packages: ['${parameters.it}']"))
    assert "'it' filled in" in told
