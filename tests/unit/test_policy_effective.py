"""A recipe tightens the organisation's policy and never loosens it; a typo in a policy never passes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.policy.demands import Demands
from builder.policy.effective import EffectivePolicy, PolicyLoosened, effective, refuse_looser
from builder.policy.facts import Account, BaseFacts, Facts, Files, ImageFacts, Paths, RanTest, Update
from builder.policy.gate import evaluate
from builder.policy.organisation import DEFAULT, OrganisationPolicy
from builder.policy.policy import Policy
from builder.policy.reading import PolicyInvalid, read_policy
from builder.policy.rule import Rule
from builder.policy.rules import RULES
from builder.policy.strictness import Parameters, looser_fields, stricter
from builder.scanning.findings import Findings, Misconfiguration, Package, Secret, Severity, Vulnerability
from tests.unit.judged import DATABASE, NOW, facts, paths

HEAD = "apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {name: acme, version: '7'}\n"
NAMES = st.sampled_from(["/a", "/b", "*", "a", "b", "MIT", "AGPL-3.0-only", "recipe:x", "image:*", "DS-0002"])


def policy(spec: str) -> OrganisationPolicy:
    return read_policy(HEAD + "spec:\n" + spec)


def parameters_of(rule: Rule) -> st.SearchStrategy[Parameters]:
    limits = st.sampled_from(["none", "low", "medium", "high", "critical"])
    kinds: dict[str, Any] = {
        "maximumSeverity": limits, "maximumSeverityUnfixed": limits, "whenStale": st.sampled_from(["fail", "warn"]),
        "unknown": st.sampled_from(["fail", "allow"]), "securityOnly": st.booleans(), "allow": NAMES,
        "allowKept": st.booleans(), "maximum": st.integers(0, 2), "minimum": st.integers(1, 3),
        "minimumUid": st.integers(1, 3), "maximumDays": st.integers(0, 3), "maximumAgeHours": st.integers(1, 3),
        "maximumCompressedBytes": st.integers(1, 3), "maximumUnpackedBytes": st.integers(1, 3),
    }  # fmt: skip
    fields = {}
    for name, one in rule.parameters.model_fields.items():
        alias = one.alias or name
        if alias == "allow" and rule.name == "secrets":
            fields[alias] = st.booleans()
        elif alias in ("allow", "deny", "allowed", "ignore", "shells"):
            fields[alias] = st.lists(NAMES, max_size=4)
        else:
            fields[alias] = kinds[alias]
    return st.fixed_dictionaries({}, optional=fields).map(rule.parameters.model_validate)


SOME_RULE = st.sampled_from(list(RULES.values()))
TWO = SOME_RULE.flatmap(lambda rule: st.tuples(st.just(rule), parameters_of(rule), parameters_of(rule)))


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    """Facts around the borders that the strategies for parameters draw."""
    some = st.lists(st.sampled_from(["/a", "/b", "/c"]), max_size=2).map(lambda names: paths(*names))
    severity = st.sampled_from(list(Severity))
    kinds = st.builds(
        Files, unpacked_bytes=st.integers(0, 4), setid=some, world_writable=some, shells=some, histories=some,
        package_managers=some, ssh_servers=some, host_keys=some, private_keys=some, devices=some,
    )  # fmt: skip
    vulnerability = st.builds(
        Vulnerability, id=st.just("CVE-1"), package=st.just("a"), installed=st.just("1"),
        fixed=st.sampled_from([None, "2"]), severity=severity, status=st.just("affected"), target=st.just("t"),
    )  # fmt: skip
    mistake = st.builds(
        Misconfiguration, id=st.sampled_from(["DS-0002", "DS-0031"]), title=st.just("t"), severity=severity,
        message=st.just("m"), resolution=st.none(), target=st.just("t"),
    )  # fmt: skip
    secret = st.just(Secret(rule="r", severity=Severity.LOW, target="t", line=1))
    package = st.builds(
        Package, name=st.sampled_from("abc"), version=st.just("1"), source_package=st.sampled_from([None, "b"]),
        licenses=st.lists(st.sampled_from(["MIT", "AGPL-3.0-only", "MIT OR AGPL-3.0-only"]), max_size=1).map(tuple),
    )  # fmt: skip
    packages = draw(st.lists(package, min_size=1, max_size=2).map(tuple))
    account = st.builds(
        Account, name=st.sampled_from("ab"), uid=st.just(1), password=st.sampled_from(["locked", "set", "empty"]),
        shell=st.sampled_from(["/bin/sh", "/usr/sbin/nologin"]),
    )  # fmt: skip
    update = st.builds(Update, package=st.just("a"), installed=st.just("1"), available=st.just("2"))
    made = draw(st.timedeltas(min_value=NOW - NOW, max_value=NOW - NOW.replace(day=1, month=10)))
    return facts(
        database=DATABASE.model_copy(update={"updated_at": NOW - made / 100, "stale": draw(st.booleans())}),
        findings=Findings(
            vulnerabilities=draw(st.lists(vulnerability, max_size=2).map(tuple)),
            secrets=draw(st.lists(secret, max_size=1).map(tuple)),
            misconfigurations=draw(st.lists(mistake, max_size=2).map(tuple)),
        ),
        packages=packages,
        packages_seen=len(packages),
        packages_expected=draw(st.integers(0, 2)),
        covered=draw(st.sampled_from([None, True, False])),
        image=draw(st.none() | st.builds(
            ImageFacts, architecture=st.just("amd64"), created=st.none(), user=st.none(), healthcheck=st.booleans(),
            uid=st.none() | st.integers(0, 4), compressed_bytes=st.integers(0, 4),
        )),
        files=draw(st.none() | kinds),
        accounts=draw(st.none() | st.lists(account, max_size=2).map(tuple)),
        base=draw(st.none() | st.sampled_from([
            BaseFacts(recipe="x", created=NOW - made), BaseFacts(image="h/r@sha256:0"), BaseFacts(suite="trixie"),
        ])),
        kept_setuid=draw(st.sampled_from([(), ("/a",)])),
        updates=draw(st.none() | st.lists(update, max_size=3).map(tuple)),
        tests=tuple(RanTest(name="t", passed=True) for _ in range(draw(st.integers(0, 4)))),
        hermetic=draw(st.sampled_from([None, True, False])),
        reproduced=draw(st.sampled_from([None, True, False])),
    )  # fmt: skip


@given(TWO, any_facts())
@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_what_two_demand_together_passes_nothing_that_either_refuses(
    two: tuple[Rule, Parameters, Parameters], judged: Facts
) -> None:
    rule, a, b = two
    if rule.apply(judged, stricter(a, b)).passed:
        assert rule.apply(judged, a).passed
        assert rule.apply(judged, b).passed


@given(TWO)
@settings(max_examples=400)
def test_what_two_demand_together_is_looser_than_neither(two: tuple[Rule, Parameters, Parameters]) -> None:
    _, a, b = two
    both = stricter(a, b)
    assert looser_fields(both, a) == looser_fields(both, b) == ()
    assert stricter(both, a).told() == both.told() == stricter(b, a).told()


def demands_from(draw: st.DrawFn) -> Demands:
    named = {}
    for rule in draw(st.lists(SOME_RULE, max_size=4, unique_by=lambda one: one.name)):
        named[rule.name] = draw(parameters_of(rule)).told()
    return Demands.model_validate(named)


@st.composite
def demands(draw: st.DrawFn) -> Demands:
    return demands_from(draw)


@given(demands(), demands(), any_facts())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_the_effective_policy_is_never_looser_than_either_part(ours: Demands, theirs: Demands, judged: Facts) -> None:
    organisation = DEFAULT.model_copy(update={"spec": DEFAULT.spec.model_copy(update={"rules": ours})})
    both = evaluate(effective(organisation, "app", Policy(rules=theirs)), judged)
    if both.passed:
        assert evaluate(effective(organisation, "app"), judged).passed
        assert evaluate(EffectivePolicy("own", "1", theirs), judged).passed
        assert evaluate(EffectivePolicy("own", "1", Policy(rules=theirs).demands), judged).passed


def test_a_recipe_that_says_nothing_is_held_to_the_strict_defaults() -> None:
    demanded = effective(DEFAULT, "app", Policy()).demands
    assert demanded.vulnerabilities is not None
    assert demanded.vulnerabilities.told() == {"maximumSeverity": "medium", "maximumSeverityUnfixed": "medium"}
    assert demanded.secrets is not None
    assert not demanded.secrets.allow


def test_without_an_organisations_policy_recipes_decide_as_before() -> None:
    asked = Policy.model_validate({"maximumSeverity": "critical", "ignoreUnfixed": True, "allowSecrets": True})
    refuse_looser(DEFAULT, "app", asked)
    demanded = effective(DEFAULT, "app", asked).demands
    assert demanded.vulnerabilities is not None
    assert demanded.secrets is not None
    assert demanded.vulnerabilities.maximum_severity_unfixed == "critical"
    assert demanded.secrets.allow


@pytest.mark.parametrize(
    ("asked", "field", "values"),
    [
        ({"maximumSeverity": "critical"}, "spec.policy.maximumSeverity", "critical is looser than high"),
        ({"ignoreUnfixed": True}, "spec.policy.ignoreUnfixed", "true is looser than high"),
        ({"allowSecrets": True}, "spec.policy.allowSecrets", "true is looser than false"),
        ({"rules": {"setuid": {"allowed": ["/a"]}}}, "spec.policy.rules.setuid.allowed", "[/a] is looser than []"),
        ({"rules": {"tests": {"minimum": 1}}}, "spec.policy.rules.tests.minimum", "1 is looser than 2"),
        ({"rules": {"database": {"whenStale": "warn"}}}, "spec.policy.rules.database.whenStale", "warn is looser"),
        ({"rules": {"imageSize": {"maximumUnpackedBytes": None}}},
         "spec.policy.rules.imageSize.maximumUnpackedBytes", "no limit is looser than 5"),
    ],
)  # fmt: skip
def test_a_recipe_that_asks_for_less_is_refused_by_field_values_and_policy(
    asked: dict[str, object], field: str, values: str
) -> None:
    ours = policy(
        "  rules:\n    vulnerabilities: {maximumSeverity: high}\n    setuid: {}\n    tests: {minimum: 2}\n"
        "    imageSize: {maximumUnpackedBytes: 5}\n"
    )
    with pytest.raises(PolicyLoosened) as caught:
        refuse_looser(ours, "app", Policy.model_validate(asked))
    (fault,) = caught.value.errors
    assert fault.field == field
    assert fault.message.startswith(values)
    assert "the policy acme 7 demands" in fault.message


def test_a_recipe_may_ask_for_more() -> None:
    ours = policy("  rules:\n    vulnerabilities: {maximumSeverity: high}\n    setuid: {allowed: [/a, /b]}\n")
    asked = Policy.model_validate({"maximumSeverity": "low", "rules": {"setuid": {"allowed": ["/b"]}, "hermetic": {}}})
    refuse_looser(ours, "app", asked)
    demanded = effective(ours, "app", asked).demands
    assert demanded.setuid is not None
    assert demanded.setuid.allowed == ["/b"]
    assert demanded.hermetic is not None


def test_what_a_policy_does_not_name_of_the_rules_that_always_judge_has_strict_defaults() -> None:
    demanded = policy("  rules: {}\n").demands_of("app").told()
    assert demanded["secrets"] == {"allow": False}
    assert demanded["vulnerabilities"] == {"maximumSeverity": "medium", "maximumSeverityUnfixed": "medium"}
    assert demanded["database"] == {"maximumAgeHours": None, "whenStale": "fail"}
    assert "completeness" in demanded


class TestOverrides:
    SPEC = "  rules: {tests: {minimum: 2}}\n  overrides:\n    - recipes: ['pay-*']\n      rules: {hermetic: {}}\n"

    def test_hold_for_the_recipes_they_name(self) -> None:
        assert policy(self.SPEC).demands_of("pay-web").hermetic is not None
        assert policy(self.SPEC).demands_of("web").hermetic is None

    def test_never_loosen_for_a_name_is_whoever_asks_to_choose(self) -> None:
        with pytest.raises(PolicyInvalid, match=r"overrides\[0\].rules.tests.minimum: 1 is looser than 2"):
            policy(self.SPEC.replace("{hermetic: {}}", "{tests: {minimum: 1}}"))


class TestTypos:
    @pytest.mark.parametrize(
        ("spec", "line", "field", "hint"),
        [
            ("  rules:\n    setUid: {}\n", 6, "spec.rules.setUid", "did you mean 'setuid'?"),
            ("  rules:\n    vulnerabilities: {maximumSeverty: low}\n", 6,
             "spec.rules.vulnerabilities.maximumSeverty", "did you mean 'maximumSeverity'?"),
            ("  rulez: {}\n", 5, "spec.rulez", "did you mean 'rules'?"),
            ("  rules:\n    tests:\n      minimun: 3\n", 7, "spec.rules.tests.minimun", "did you mean 'minimum'?"),
            ("  overrides:\n    - recipes: [a]\n      rules: {userr: {}}\n", 7, "spec.overrides[0].rules.userr",
             "did you mean 'user'?"),
        ],
    )  # fmt: skip
    def test_are_told_by_line_and_field_with_the_nearest_name(
        self, spec: str, line: int, field: str, hint: str
    ) -> None:
        with pytest.raises(PolicyInvalid) as caught:
            policy(spec)
        (fault,) = caught.value.errors
        assert (fault.line, fault.field, fault.message, fault.hint) == (line, field, "unknown key", hint)

    @pytest.mark.parametrize(
        "spec",
        [
            "  rules: {vulnerabilities: {maximumSeverity: HIGH}}\n",
            "  rules: {tests: {minimum: 0}}\n",
            "  rules: {tests: {minimum: '2'}}\n",
            "  rules: {secrets: {allow: 'no'}}\n",
            "  rules: {setuid: [/a]}\n",
            "  rules: {baseAge: {maximumDays: -1}}\n",
            "  custom: [{name: setuid, title: T, expression: 'true', remedy: R}]\n",
            "  custom: [{name: a, title: T, expression: 'true', remedy: R}, "
            "{name: a, title: T, expression: 'true', remedy: R}]\n",
        ],
    )
    def test_in_values_are_errors_too(self, spec: str) -> None:
        with pytest.raises(PolicyInvalid):
            policy(spec)

    def test_a_policy_is_no_recipe_and_has_a_version(self) -> None:
        with pytest.raises(PolicyInvalid, match=r"kind: must be 'Policy'"):
            read_policy(HEAD.replace("kind: Policy", "kind: Image"))
        with pytest.raises(PolicyInvalid, match=r"metadata.version: is required"):
            read_policy(HEAD.replace(", version: '7'", ""))


def test_the_identity_changes_with_what_is_demanded_and_with_nothing_else() -> None:
    one = effective(policy("  rules: {setuid: {allowed: [/a, /b]}}\n"), "app", Policy()).identity
    assert (one.name, one.version) == ("acme", "7")
    assert one == effective(policy("  rules:\n    setuid:\n      allowed: [/a, /b]\n"), "app", Policy()).identity
    assert one.digest != effective(policy("  rules: {setuid: {}}\n"), "app", Policy()).identity.digest
    assert one.digest != effective(policy("  rules: {setuid: {allowed: [/a, /b]}}\n"), "app",
                                   Policy(maximum_severity="low")).identity.digest  # fmt: skip


def test_an_allow_list_says_the_same_in_any_order() -> None:
    assert paths() == Paths()
    ours = policy("  rules: {setuid: {allowed: [/b, /a]}}\n")
    refuse_looser(ours, "app", Policy.model_validate({"rules": {"setuid": {"allowed": ["/a", "/b"]}}}))
