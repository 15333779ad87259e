"""The gate at each border: what passes, what does not, and what a person is told to change."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from builder.errors import Rejected
from builder.policy.effective import effective
from builder.policy.exceptions import PolicyException
from builder.policy.facts import Facts
from builder.policy.gate import evaluate as evaluate_facts
from builder.policy.organisation import DEFAULT, CustomRule
from builder.policy.policy import Policy
from builder.policy.rules import RULES
from builder.policy.verdict import GateFailed, RuleResult, Verdict
from builder.scanning.findings import Findings, Misconfiguration, Secret, Severity, Vulnerability
from tests.unit.judged import DATABASE, NOW, REFERENCE, facts


def evaluate(policy: Policy, judged: Facts, *, exceptions: tuple[PolicyException, ...] = ()) -> Verdict:
    """By the default policy, and a recipe's own."""
    return evaluate_facts(effective(DEFAULT, "app", policy), judged, exceptions=exceptions)


ORDER = ["none", "low", "medium", "high", "critical"]
PLACE = {Severity.LOW: 1, Severity.MEDIUM: 2, Severity.HIGH: 3, Severity.CRITICAL: 4, Severity.UNKNOWN: 4}


def scan(findings: Findings | None = None, *, sample: bool = False) -> Facts:
    return facts(findings=findings or Findings(), database=DATABASE.model_copy(update={"sample": sample}))


def vulnerability(severity: Severity, fixed: str | None = "3.0.11-1~deb12u2", name: str = "openssl") -> Vulnerability:
    return Vulnerability(
        id="CVE-2023-5363",
        package=name,
        installed="3.0.11-1",
        fixed=fixed,
        severity=severity,
        status="fixed" if fixed else "affected",
        target="app",
    )


def judge(policy: Policy, *vulnerabilities: Vulnerability) -> Verdict:
    return evaluate(policy, scan(Findings(vulnerabilities=vulnerabilities)))


def rule(verdict: Verdict, name: str) -> RuleResult:
    return next(result for result in verdict.rules if result.rule == name)


@pytest.mark.parametrize("limit", ORDER)
@pytest.mark.parametrize("severity", list(Severity))
def test_the_border_lies_exactly_at_the_maximum_severity(limit: str, severity: Severity) -> None:
    policy = Policy.model_validate({"maximumSeverity": limit})
    assert judge(policy, vulnerability(severity)).passed == (PLACE[severity] <= ORDER.index(limit))


@pytest.mark.parametrize("limit", ["none", "low", "medium", "high"])
def test_what_nobody_has_rated_counts_as_critical(limit: str) -> None:
    assert not judge(Policy.model_validate({"maximumSeverity": limit}), vulnerability(Severity.UNKNOWN)).passed
    assert judge(Policy(maximum_severity="critical"), vulnerability(Severity.UNKNOWN)).passed


def test_without_findings_any_policy_passes() -> None:
    assert evaluate(Policy(maximum_severity="none"), scan()).passed


def test_an_upgrade_is_named_to_the_version() -> None:
    (offender,) = rule(judge(Policy(), vulnerability(Severity.HIGH)), "vulnerabilities").offenders
    assert offender.remedy == "upgrade openssl 3.0.11-1 to 3.0.11-1~deb12u2"


def test_without_a_fix_the_ways_out_are_named() -> None:
    (offender,) = rule(judge(Policy(), vulnerability(Severity.HIGH, fixed=None)), "vulnerabilities").offenders
    assert "no fix yet" in offender.remedy
    assert "spec.policy.ignoreUnfixed" in offender.remedy
    assert "spec.policy.maximumSeverity to high" in offender.remedy


def test_an_unfixed_one_of_unknown_severity_says_which_limit_it_takes() -> None:
    (offender,) = rule(judge(Policy(), vulnerability(Severity.UNKNOWN, fixed=None)), "vulnerabilities").offenders
    assert "spec.policy.maximumSeverity to critical" in offender.remedy


def test_ignoring_unfixed_ones_ignores_no_others_and_says_how_many() -> None:
    policy = Policy(ignore_unfixed=True)
    unfixed = vulnerability(Severity.CRITICAL, fixed=None)
    passed = judge(policy, unfixed)
    assert passed.passed
    assert "1 without a fix was ignored" in passed.explanation
    verdict = judge(policy, unfixed, vulnerability(Severity.HIGH))
    assert not verdict.passed
    assert len(rule(verdict, "vulnerabilities").offenders) == 1


def test_the_worst_come_first() -> None:
    verdict = judge(
        Policy(maximum_severity="none"),
        vulnerability(Severity.LOW, name="a"),
        vulnerability(Severity.CRITICAL, name="z"),
        vulnerability(Severity.HIGH, name="b"),
    )
    assert [o.subject[0] for o in rule(verdict, "vulnerabilities").offenders] == ["z", "b", "a"]


SECRET = Secret(rule="private-key", severity=Severity.HIGH, target="/opt/key.pem", line=2)


def test_a_secret_fails_the_gate_whatever_its_severity() -> None:
    for severity in Severity:
        findings = Findings(secrets=(SECRET.model_copy(update={"severity": severity}),))
        assert not evaluate(Policy(maximum_severity="critical", ignore_unfixed=True), scan(findings)).passed


def test_allowed_secrets_are_still_told() -> None:
    verdict = evaluate(Policy(allow_secrets=True), scan(Findings(secrets=(SECRET,))))
    assert verdict.passed
    assert rule(verdict, "secrets").offenders[0].subject == "/opt/key.pem, line 2"


def misconfiguration(identifier: str) -> Misconfiguration:
    return Misconfiguration(
        id=identifier, title="Runs as root", severity=Severity.CRITICAL, message="m", resolution="r", target="app"
    )


def test_a_secret_in_the_environment_is_a_secret() -> None:
    findings = Findings(misconfigurations=(misconfiguration("DS-0031"),))
    assert not evaluate(Policy(), scan(findings)).passed
    assert evaluate(Policy(allow_secrets=True), scan(findings)).passed


def test_remarks_on_the_configuration_are_told_and_do_not_hold_back() -> None:
    verdict = evaluate(
        Policy(maximum_severity="none"), scan(Findings(misconfigurations=(misconfiguration("DS-0002"),)))
    )
    assert verdict.passed
    assert rule(verdict, "misconfiguration").offenders[0].remedy == "r"


def test_the_mark_of_the_sample_goes_with_the_verdict() -> None:
    verdict = evaluate(Policy(), scan(sample=True))
    assert verdict.sample_database
    assert "not complete" in verdict.explanation
    assert "sample" not in evaluate(Policy(), scan()).explanation


@pytest.mark.parametrize(("seen", "built", "passes"), [(0, 0, False), (0, 90, False), (89, 90, False), (90, 90, True)])
def test_a_scan_that_saw_less_than_what_was_built_says_nothing(seen: int, built: int, passes: bool) -> None:
    verdict = evaluate(Policy(), facts(packages_seen=seen, packages_expected=built))
    assert verdict.passed is passes
    assert f"saw {seen} packages" in verdict.explanation


def test_a_failed_verdict_as_an_error_says_what_to_change() -> None:
    findings = Findings(vulnerabilities=(vulnerability(Severity.HIGH),), secrets=(SECRET,))
    error = GateFailed.of(evaluate(Policy(), scan(findings)))
    assert isinstance(error, Rejected)
    problem = error.problem()
    assert (problem.type, problem.status, problem.retryable) == ("/problems/gate-failed", 422, False)
    assert [fault.field for fault in problem.errors] == ["spec.policy.maximumSeverity", "spec.policy.allowSecrets"]
    assert str(problem.errors[0]) == (
        "spec.policy.maximumSeverity: CVE-2023-5363 (high) in openssl 3.0.11-1 "
        "(upgrade openssl 3.0.11-1 to 3.0.11-1~deb12u2)"
    )


def test_an_error_with_thousands_of_offenders_stays_readable() -> None:
    many = [vulnerability(Severity.HIGH, name=f"package{number}") for number in range(3000)]
    error = GateFailed.of(judge(Policy(), *many))
    assert len(error.errors) == 51
    assert "2950 more" in error.errors[-1].message


def test_a_verdict_survives_being_stored() -> None:
    verdict = evaluate(Policy(), scan(Findings(vulnerabilities=(vulnerability(Severity.HIGH),)), sample=True))
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


@given(
    st.lists(st.builds(vulnerability, st.sampled_from(list(Severity)), st.sampled_from([None, "2"])), max_size=8),
    st.sampled_from(ORDER[1:]),
    st.booleans(),
)
def test_a_stricter_policy_never_passes_what_a_laxer_one_refuses(
    found: list[Vulnerability], limit: str, ignore: bool
) -> None:
    laxer = Policy.model_validate({"maximumSeverity": limit, "ignoreUnfixed": ignore})
    stricter = Policy.model_validate({"maximumSeverity": ORDER[ORDER.index(limit) - 1], "ignoreUnfixed": ignore})
    if judge(stricter, *found).passed:
        assert judge(laxer, *found).passed
    if judge(laxer.model_copy(update={"ignore_unfixed": False}), *found).passed:
        assert judge(laxer, *found).passed


@pytest.mark.parametrize(
    "text",
    [
        {"maximumSeverty": "high"},
        {"maximumSeverity": "severe"},
        {"maximumSeverity": "HIGH"},
        {"maximumSeverity": None},
        {"ignoreUnfixed": "yes"},
        {"ignoreUnfixed": 1},
        {"allowSecrets": "false"},
    ],
)
def test_a_typo_in_a_policy_is_an_error(text: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(text)


def test_the_default_policy_is_strict() -> None:
    assert Policy() == Policy.model_validate({})
    assert Policy().model_dump(by_alias=True) == {
        "maximumSeverity": "medium",
        "ignoreUnfixed": False,
        "allowSecrets": False,
        "rules": dict.fromkeys(RULES),
    }


class TestExceptions:
    def exception(self, **changes: object) -> PolicyException:
        fields: dict[str, object] = {
            "id": "0" * 26, "vulnerability": "CVE-2023-5363", "package": "openssl", "owner": "ann", "reason": "no TLS",
            "created": NOW - timedelta(days=9), "expires": NOW + timedelta(seconds=1),
        }  # fmt: skip
        return PolicyException.model_validate({**fields, **changes})

    def judged(self, *exceptions: PolicyException, severity: Severity = Severity.HIGH) -> Verdict:
        return evaluate(Policy(), scan(Findings(vulnerabilities=(vulnerability(severity),))), exceptions=exceptions)

    def test_one_that_holds_takes_its_vulnerability_out_and_is_listed(self) -> None:
        verdict = self.judged(self.exception())
        assert verdict.passed
        (used,) = verdict.excepted
        assert (used.vulnerability, used.package, used.exception) == ("CVE-2023-5363", "openssl", "0" * 26)
        assert (used.owner, used.reason, used.expires) == ("ann", "no TLS", NOW + timedelta(seconds=1))
        assert "1 more is excepted" in verdict.explanation

    def test_one_that_has_just_expired_does_not_count_and_is_shouted_about(self) -> None:
        verdict = self.judged(self.exception(expires=NOW))
        assert not verdict.passed
        assert verdict.excepted == ()
        assert f"The exception {'0' * 26} of ann for CVE-2023-5363 in openssl EXPIRED" in verdict.explanation

    @pytest.mark.parametrize(
        "scope",
        [{"vulnerability": "CVE-2023-5364"}, {"package": "curl"}, {"recipe": "web"}, {"digest": "sha256:" + "b" * 64}],
    )
    def test_one_with_another_scope_does_not_count(self, scope: dict[str, object]) -> None:
        verdict = self.judged(self.exception(**scope))
        assert not verdict.passed
        assert verdict.excepted == ()

    def test_one_for_this_recipe_and_digest_counts(self) -> None:
        assert self.judged(self.exception(recipe="app", digest=REFERENCE.rpartition("@")[2])).passed

    def test_one_that_nothing_needs_is_not_listed(self) -> None:
        assert self.judged(self.exception(), severity=Severity.LOW).excepted == ()


class TestTheVerdict:
    def test_names_its_policy_its_facts_and_for_each_rule_parameters_and_page(self) -> None:
        judged = facts()
        verdict = evaluate(Policy(), judged)
        assert verdict.passed
        assert verdict.policy == effective(DEFAULT, "app", Policy()).identity
        assert verdict.facts_digest == judged.digest
        assert rule(verdict, "setuid").parameters == {"allowed": [], "allowKept": True}
        assert rule(verdict, "setuid").documentation == "policy/rules/setuid.md"
        assert {one.rule for one in verdict.rules} >= {name for name, one in RULES.items() if one.always}

    def test_judges_no_rule_that_nobody_named(self) -> None:
        assert evaluate(Policy(), facts(reproduced=None, updates=None, hermetic=False, tests=())).passed

    def test_a_rule_that_fails_as_a_whole_is_an_error_with_its_way_out(self) -> None:
        policy = Policy.model_validate({"rules": {"hermetic": {}}})
        (fault,) = GateFailed.of(evaluate(policy, facts(hermetic=False))).errors
        assert fault.field == "spec.run"
        assert "bring what the step fetches" in (fault.hint or "")

    def test_has_the_custom_rules_of_the_organisation(self) -> None:
        custom = CustomRule(name="no-perl", title="No Perl", expression="facts.packages.size() == 0", remedy="out")
        spec = DEFAULT.spec.model_copy(update={"custom": [custom]})
        verdict = evaluate_facts(effective(DEFAULT.model_copy(update={"spec": spec}), "app", Policy()), facts())
        assert not verdict.passed
        assert rule(verdict, "custom.no-perl").remedy == "out"
