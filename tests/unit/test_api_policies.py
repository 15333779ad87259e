"""The policy in force, and dry runs on stored scans: what the gate would say, by whose policy, and within limits."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from builder.api.turns import Turns
from builder.pipeline import trying
from builder.policy.organisation import DEFAULT, OrganisationPolicy
from builder.policy.rules import RULES
from builder.settings import Settings
from builder.store.database import Database
from builder.store.schema import Attachment, Blob, Build, Record, Release
from builder.verdicts.dry_run import DryRun
from tests.unit.api import problem
from tests.unit.evidence import digest
from tests.unit.judged import facts
from tests.unit.scanned import EVERYTHING, hopeless, scanned

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]

HEAD = "apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {name: acme, version: '7'}\n"


# Words that policies have, so that some get further than their first key.
KEYS = st.text() | st.sampled_from(
    ["apiVersion", "kind", "metadata", "name", "version", "spec", "rules", "custom", "overrides", "recipes", *RULES,
     "maximumSeverity", "ignoreUnfixed", "allow", "deny", "allowed", "minimum", "maximum", "expression", "title"]
)  # fmt: skip


def custom(*expressions: str) -> str:
    rules = [{"name": f"r{i}", "title": "T", "expression": one, "remedy": "R"} for i, one in enumerate(expressions)]
    return HEAD + f"spec: {{custom: {json.dumps(rules)}}}"


def tried(client: TestClient, **asked: Any) -> DryRun:
    answer = client.post("/v1/policies/evaluate", json=asked)
    assert answer.status_code == 200, answer.text
    return DryRun.model_validate(answer.json())


def failing(found: DryRun) -> set[str]:
    return {rule.rule for rule in found.verdict.failed}


class TestInForce:
    def test_is_the_default_where_none_is_set(self, client: TestClient) -> None:
        told = client.get("/v1/policies").json()
        assert (told["name"], told["version"], told["recipe"]) == ("default", "1", None)
        assert OrganisationPolicy.model_validate(told["document"]) == DEFAULT
        rules = {rule["rule"]: rule for rule in told["rules"]}
        assert rules["setuid"]["parameters"] == {"allowed": [], "allowKept": True}
        assert rules["setuid"]["documentation"] == "policy/rules/setuid.md"
        assert rules["completeness"]["source"] == "always judged"
        assert "tests" not in rules

    def test_is_the_file_that_is_set_read_anew(self, client: TestClient, app: FastAPI, tmp_path: Path) -> None:
        file = tmp_path / "policy.yaml"
        file.write_text(EVERYTHING)
        app.state.services.settings = Settings(policy=file)
        told = client.get("/v1/policies").json()
        assert [rule["rule"] for rule in told["rules"]] == list(RULES)
        assert [rule["rule"] for rule in told["custom"]] == ["custom.no-perl"]
        file.write_text(EVERYTHING.replace('version: "1"', 'version: "2"'))
        again = client.get("/v1/policies").json()
        assert again["version"] == "2"
        assert again["digest"] != told["digest"]
        assert again["effectiveDigest"] == told["effectiveDigest"]

    def test_of_a_recipe_names_who_demands_what(
        self, client: TestClient, app: FastAPI, settings: Settings, tmp_path: Path
    ) -> None:
        file = tmp_path / "policy.yaml"
        file.write_text(
            HEAD + "spec:\n  rules:\n    vulnerabilities: {maximumSeverity: high}\n    secrets: {allow: true}\n"
            "  overrides:\n  - recipes: [w*]\n    rules: {hermetic: {}}\n"
        )
        app.state.services.settings = Settings(policy=file)
        recipe = settings.recipes_directory / "web.yaml"
        recipe.write_text(recipe.read_text() + "  policy: {maximumSeverity: low, rules: {tests: {minimum: 3}}}\n")
        rules = {rule["rule"]: rule for rule in client.get("/v1/policies", params={"recipe": "web"}).json()["rules"]}
        assert rules["vulnerabilities"]["parameters"]["maximumSeverity"] == "low"
        assert rules["vulnerabilities"]["sources"]["maximumSeverity"] == "recipe"
        assert rules["secrets"]["sources"] == {"allow": "recipe, by default"}
        assert rules["hermetic"]["source"] == "override 0 (w*)"
        assert rules["tests"]["source"] == "recipe"
        other = {rule["rule"] for rule in client.get("/v1/policies", params={"recipe": "python"}).json()["rules"]}
        assert not other & {"hermetic", "tests"}

    def test_that_is_at_fault_names_the_setting_and_the_line(
        self, client: TestClient, app: FastAPI, tmp_path: Path
    ) -> None:
        file = tmp_path / "policy.yaml"
        file.write_text(HEAD + "spec: {rulez: {}}\n")
        app.state.services.settings = Settings(policy=file)
        told = problem(client.get("/v1/policies"), 500, "settings-invalid")
        assert told.detail.startswith("GOLDSMITH_POLICY: ")
        assert (told.errors[0].line, told.errors[0].field) == (4, "spec.rulez")

    def test_an_unknown_recipe_is_told_with_the_nearest(self, client: TestClient) -> None:
        assert "'web'" in (problem(client.get("/v1/policies?recipe=weeb"), 404, "recipe-unknown").hint or "")


def test_the_rules_are_listed_with_parameters_and_which_way_is_stricter(client: TestClient) -> None:
    rules = {rule["name"]: rule for rule in client.get("/v1/policies/rules").json()["rules"]}
    assert list(rules) == list(RULES)
    docs = Path(__file__).parents[2] / "docs"
    assert [one["documentation"] for one in rules.values() if not (docs / one["documentation"]).is_file()] == []
    (limit, _) = rules["vulnerabilities"]["parameters"]
    assert (limit["name"], limit["default"]) == ("maximumSeverity", "medium")
    assert limit["stricter"].startswith("strictest first: `none`, `low`")
    assert rules["secrets"]["judged"] == "always"
    assert rules["setuid"]["judged"] == "by default"
    assert rules["tests"]["judged"] == "where a policy names it"


class TestFacts:
    def test_are_given_out_as_they_were_kept(self, client: TestClient, store: Database) -> None:
        build = scanned(store, facts(), image=digest("a"))
        for path in (f"/v1/builds/{build}/facts", f"/v1/images/{digest('a')}/facts"):
            answer = client.get(path)
            assert answer.content == facts().to_bytes()
            assert answer.headers["ETag"].removeprefix("W/") == f'"{facts().digest}"'
            assert answer.headers["content-type"] == "application/vnd.goldsmith.facts.v1+json"

    def test_that_nobody_kept_are_a_problem_with_the_reason(self, client: TestClient, store: Database) -> None:
        build = scanned(store, facts(), image=digest("a"), keeps_facts=False)
        for path in (f"/v1/builds/{build}/facts", f"/v1/images/{digest('a')}/facts"):
            problem(client.get(path), 409, "facts-unavailable")
        problem(client.get(f"/v1/images/{digest('b')}/facts"), 404, "image-unknown")
        problem(client.get(f"/v1/builds/{'0' * 26}/facts"), 404, "build-unknown")


class TestDryRun:
    def test_every_rule_can_fail_and_says_what_would_make_it_pass(self, client: TestClient, store: Database) -> None:
        found = tried(client, build=scanned(store, hopeless()), policy=EVERYTHING)
        assert failing(found) == {*RULES, "custom.no-perl"}
        assert [rule.rule for rule in found.verdict.rules if not rule.remedy] == []
        assert found.headline == f"would be stopped at the gate: {len(RULES) + 1} rules fail"

    def test_the_same_policy_lets_a_good_image_pass(self, client: TestClient, store: Database) -> None:
        found = tried(client, build=scanned(store, facts()), policy=EVERYTHING)
        assert found.verdict.passed, found.verdict.explanation
        assert (found.verdict.policy and found.verdict.policy.name) == "everything"

    def test_names_what_newly_fails(self, client: TestClient, store: Database) -> None:
        scanned(store, hopeless(), image=digest("a"))
        assert tried(client, image=digest("a")).newly_failing == ()
        newly = tried(client, image=digest("a"), policy=EVERYTHING).newly_failing
        assert newly is not None
        assert {"tests", "user", "custom.no-perl"} <= set(newly)
        assert not {"setuid", "vulnerabilities"} & set(newly)

    def test_without_a_policy_is_by_the_one_in_force_and_the_recipes_own(
        self, client: TestClient, store: Database
    ) -> None:
        image = hopeless()
        build = scanned(store, image, policy="{maximumSeverity: critical, allowSecrets: true}")
        found = tried(client, build=build)
        assert found.recipe_policy == "build"
        assert not {"vulnerabilities", "secrets"} & failing(found)
        stricter = tried(client, build=build, recipePolicy={})
        assert stricter.recipe_policy == "request"
        assert {"vulnerabilities", "secrets"} <= failing(stricter)

    def test_says_what_a_recipe_would_be_refused_for(self, client: TestClient, store: Database) -> None:
        build = scanned(store, facts(), policy="{maximumSeverity: critical}")
        found = tried(client, build=build, policy=HEAD + "spec: {rules: {vulnerabilities: {maximumSeverity: high}}}")
        assert [one.field for one in found.looser] == ["spec.policy.maximumSeverity"]
        assert found.verdict.passed

    def test_takes_a_policy_as_an_object_too(self, client: TestClient, store: Database) -> None:
        data = {"apiVersion": "goldsmith/v1", "kind": "Policy", "metadata": {"name": "a", "version": "1"}}
        build = scanned(store, facts(tests=()))
        assert tried(client, build=build, policy=data).verdict.passed
        assert failing(tried(client, build=build, policy={**data, "spec": {"rules": {"tests": {}}}})) == {"tests"}

    def test_gives_the_same_verdict_each_time(self, client: TestClient, store: Database) -> None:
        build = scanned(store, hopeless())
        first, second = (tried(client, build=build, policy=EVERYTHING).verdict for _ in range(2))
        assert first.rules == second.rules
        assert first.policy == second.policy
        assert first.facts_digest == hopeless().digest

    def test_writes_nothing(self, client: TestClient, store: Database) -> None:
        def rows() -> list[int]:
            kinds = (Attachment, Blob, Build, Record, Release)
            with store.read() as session:
                return [session.scalar(select(func.count()).select_from(kind)) or 0 for kind in kinds]

        build = scanned(store, facts())
        before = rows()
        tried(client, build=build, policy=EVERYTHING)
        assert rows() == before

    def test_says_by_which_exceptions(self, client: TestClient, store: Database) -> None:
        found = tried(client, build=scanned(store, facts()))
        assert found.exceptions.counted
        assert found.exceptions.as_of == facts().gathered_at
        assert found.exceptions.left_aside == ()

    def test_where_exceptions_cannot_be_verified_none_counts_and_the_answer_says_so(
        self, client: TestClient, store: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from builder.signing.trust import TrustInvalid

        def away(*_: object) -> None:
            raise TrustInvalid("trust.json is not a usable client trust configuration")

        monkeypatch.setattr(trying, "active_exceptions", away)
        basis = tried(client, build=scanned(store, facts())).exceptions
        assert not basis.counted
        assert basis.left_aside == ("The Sigstore trust configuration cannot be used",)


class TestRefusals:
    @pytest.mark.parametrize(
        ("policy", "line", "field", "hint"),
        [
            (HEAD + "spec: {rules: {setUid: {}}}\n", 4, "spec.rules.setUid", "did you mean 'setuid'?"),
            (custom("facts.pakages.size() == 0"), 4, "spec.custom[0].expression", "did you mean 'packages'?"),
            (custom("1 + 1"), 4, "spec.custom[0].expression", "docs/policy.md has the facts"),
            ("[", 1, None, None),
        ],
    )
    def test_a_policy_at_fault_is_a_problem_with_the_place_and_the_way_out(
        self, client: TestClient, store: Database, policy: str, line: int, field: str | None, hint: str | None
    ) -> None:
        asked: dict[str, Any] = {"build": scanned(store, facts()), "policy": policy}
        told = problem(client.post("/v1/policies/evaluate", json=asked), 422, "policy-invalid")
        (fault,) = told.errors
        assert (fault.line, fault.field, fault.hint) == (line, field, hint)

    @pytest.mark.parametrize("member", ["policy", "recipePolicy"])
    def test_anything_is_judged_or_refused_with_words(self, client: TestClient, store: Database, member: str) -> None:
        build = scanned(store, facts())
        anything = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
            max_leaves=12,
        )

        @hypothesis_settings(max_examples=150, deadline=None, derandomize=True, database=None)
        @given(anything)
        def attempt(value: Any) -> None:
            answer = client.post("/v1/policies/evaluate", json={"build": build, member: value})
            assert answer.status_code in (200, 422), answer.text
            if answer.status_code == 422:
                assert problem(answer, 422, answer.json()["type"].rpartition("/")[2]).detail

        attempt()

    def test_a_recipes_policy_at_fault_names_the_field(self, client: TestClient, store: Database) -> None:
        asked = {"build": scanned(store, facts()), "recipePolicy": {"maximumSeverty": "low"}}
        told = problem(client.post("/v1/policies/evaluate", json=asked), 422, "policy-invalid")
        assert told.errors[0].field == "recipePolicy.maximumSeverty"

    @pytest.mark.parametrize(
        "asked", [{}, {"build": "0" * 26, "image": digest("a")}, {"build": "x"}, {"bild": "x"}, []]
    )
    def test_a_request_names_one_subject(self, client: TestClient, asked: Any) -> None:
        problem(client.post("/v1/policies/evaluate", json=asked), 422, "request-invalid")

    def test_what_there_is_none_of(self, client: TestClient, store: Database) -> None:
        build = scanned(store, facts(), keeps_facts=False)
        problem(client.post("/v1/policies/evaluate", json={"build": build}), 409, "facts-unavailable")
        problem(client.post("/v1/policies/evaluate", json={"build": "0" * 26}), 404, "build-unknown")
        problem(client.post("/v1/policies/evaluate", json={"image": digest("b")}), 404, "image-unknown")


class TestLimits:
    """A caller with a key may ask for anything, and must not hinder the others."""

    def test_more_custom_rules_than_a_dry_run_takes(self, client: TestClient, store: Database) -> None:
        build = scanned(store, facts())
        most = trying.MOST_CUSTOM_RULES
        assert tried(client, build=build, policy=custom(*["true"] * most)).verdict.passed
        asked = {"build": build, "policy": custom(*["true"] * (most + 1))}
        told = problem(client.post("/v1/policies/evaluate", json=asked), 422, "dry-run-too-large")
        assert "21 custom rules" in told.detail

    def test_more_patterns_than_a_dry_run_takes(self, client: TestClient, store: Database) -> None:
        policy = HEAD + f"spec: {{rules: {{packages: {{deny: {json.dumps([f'a{i}*' for i in range(6000)])}}}}}}}"
        asked: dict[str, Any] = {"build": scanned(store, facts()), "policy": policy}
        problem(client.post("/v1/policies/evaluate", json=asked), 422, "dry-run-too-large")
        many = {"rules": {"packages": {"deny": [f"a{i}*" for i in range(6000)]}}}
        asked = {"build": scanned(store, facts()), "recipePolicy": many}
        problem(client.post("/v1/policies/evaluate", json=asked), 422, "dry-run-too-large")

    def test_custom_rules_that_do_not_end_are_ended_together(
        self, client: TestClient, store: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trying, "SECONDS", 0.5)
        asked = {"build": scanned(store, facts()), "policy": custom(*["true"] * 20)}
        begun = time.monotonic()
        problem(client.post("/v1/policies/evaluate", json=asked), 422, "custom-rules-too-slow")
        assert time.monotonic() - begun < 10

    def test_others_are_answered_meanwhile(
        self, client: TestClient, app: FastAPI, store: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app.state.turns = Turns(at_once=1, waiting=1, each=9)
        begun, go = threading.Semaphore(0), threading.Event()
        real = trying.dry_run

        def slow(*arguments: Any, **named: Any) -> DryRun:
            begun.release()
            assert go.wait(20)
            return real(*arguments, **named)

        monkeypatch.setattr(trying, "dry_run", slow)
        asked = {"build": scanned(store, facts())}
        with ThreadPoolExecutor(3) as pool:
            held = [pool.submit(client.post, "/v1/policies/evaluate", json=asked) for _ in range(2)]
            assert begun.acquire(timeout=20)
            deadline = time.monotonic() + 20
            while (refused := client.post("/v1/policies/evaluate", json={"build": "0" * 26})).status_code == 404:
                assert time.monotonic() < deadline
            assert client.get("/v1/builds").status_code == 200
            go.set()
            assert [one.result().status_code for one in held] == [200, 200]
        problem(refused, 503, "too-many-at-once")
        monkeypatch.undo()
        assert client.post("/v1/policies/evaluate", json=asked).status_code == 200

    def test_one_caller_leaves_room_for_another(
        self, client: TestClient, app: FastAPI, store: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app.state.turns = Turns(at_once=2, waiting=2, each=1)
        begun, go = threading.Event(), threading.Event()

        def slow(*_: Any) -> DryRun:
            begun.set()
            assert go.wait(20)
            raise trying.DryRunTooLarge("enough")

        monkeypatch.setattr("builder.api.policies.try_policy", slow)
        asked = {"build": scanned(store, facts())}
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.post, "/v1/policies/evaluate", json=asked)
            assert begun.wait(20)
            problem(client.post("/v1/policies/evaluate", json=asked), 503, "too-many-at-once")
            go.set()
            problem(first.result(), 422, "dry-run-too-large")
