"""One report, told in five forms: none says more than was seen, and nothing of a subject's acts on who reads it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import jsonschema
import pytest

from builder.forensics.configuration_rules import CONFIGURATION_RULES
from builder.forensics.findings import ConfigurationFinding, Difference, Finding, Kind, Outcome, Severity
from builder.forensics.judging import judge_with
from builder.forensics.markdown import code, markdown_text
from builder.forensics.page import page_text
from builder.forensics.report import (
    Golden,
    Report,
    SubjectTold,
    Times,
    Tool,
    VerifiedBy,
    configuration_told,
    findings_told,
    totals_told,
    verdict_told,
)
from builder.forensics.rules import shipped_rules
from builder.forensics.sarif import sarif, sarif_text
from builder.image.entry import Entry, EntryType
from builder.image.inventory import Package

DIGEST = "sha256:" + "5c" * 32
NASTY = "usr/bin/<script>alert(1)</script>&\"'`|\x1b[2J\u202egnp.exe\n\t# x".encode()
FIND = b"usr/bin/find"
NOT_UTF8 = b"srv/\xff\xfe"


def file(path: bytes, mode: int = 0o644, sha256: str = "a" * 64, **fields: object) -> Entry:
    return replace(Entry(path, EntryType.FILE, mode, 0, 0, 4, sha256), **fields)  # type: ignore[arg-type]


DIFFERENCES = [
    Difference(NASTY, (Kind.ADDED,), None, file(NASTY, 0o755)),
    Difference(NOT_UTF8, (Kind.ADDED,), None, file(NOT_UTF8)),
    Difference(b"usr/bin/find", (Kind.MODE,), file(FIND, 0o755), file(FIND, 0o4755), Package("findutils", "4.10")),
    Difference(b"etc/motd", (Kind.CONTENT,), file(b"etc/motd"), file(b"etc/motd", sha256="b" * 64)),
    Difference(b"srv/x", (Kind.MOVED,), file(b"usr/share/x"), file(b"srv/x"), moved_from=b"usr/share/x"),
]  # fmt: skip
EXPECTED = Difference(b".dockerenv", (Kind.ADDED,), None, file(b".dockerenv", size=0))


def finding(difference: Difference) -> Finding:
    return judge_with(shipped_rules())(difference)


def configured(member: str, value: str, rule: str, expected: str | None = None) -> ConfigurationFinding:
    severity, reason = CONFIGURATION_RULES[rule]
    return ConfigurationFinding(member, None, value, severity, rule, reason, expected)


CONFIGURATION = (
    configured("HostConfig.Privileged", "true", "configuration.privileged"),
    configured("Mounts /data", "volume", "configuration.mount.known", "the image declares this volume"),
)


def outcome(findings: list[Difference], expected: list[Difference]) -> Outcome:
    judged = [finding(one) for one in findings]
    severities: dict[Severity, int] = {}
    for one in judged:
        severities[one.severity] = severities.get(one.severity, 0) + 1
    return Outcome(
        golden_entries=4120,
        subject_entries=4134,
        findings=tuple(sorted(judged, key=lambda one: -one.severity)),
        expected=tuple(finding(one) for one in expected),
        findings_total=len(judged),
        expected_total=len(expected),
        by_kind={kind: sum(kind in one.kinds for one in findings) for kind in Kind},
        by_severity=severities,
        labels_ignored=0,
    )


def report(
    findings: list[Difference] = DIFFERENCES,
    configuration: tuple[ConfigurationFinding, ...] = CONFIGURATION,
    expected: tuple[Difference, ...] = (EXPECTED,),
    unproven: tuple[str, ...] = (),
) -> Report:
    found = outcome(findings, list(expected))
    return Report(
        verdict=verdict_told(found, configuration, complete=not unproven),
        complete=not unproven,
        unproven=unproven,
        golden=Golden(
            image=f"registry.example/golden/web@{DIGEST}",
            digest=DIGEST,
            inventory_digest="sha256:" + "1d" * 32,
            entries=4120,
            verified=VerifiedBy(
                identity="https://sandbox.invalid/goldsmith",
                issuer="http://127.0.0.1:1",
                trust="the command line",
                trust_from_server=False,
                sandbox=True,
                log_index=7,
                integrated_time=datetime(2026, 1, 1, tzinfo=UTC),
            ),
        ),
        subject=SubjectTold(kind="container", name="web-1", id="c" * 64, of_this_image=True, entries=4134),
        totals=totals_told(found, configuration),
        findings=findings_told(found.findings),
        configuration=configuration_told(configuration),
        configuration_compared=True,
        expected=findings_told(found.expected),
        times=Times(started=datetime(2026, 1, 2, tzinfo=UTC), finished=datetime(2026, 1, 2, 0, 0, 3, tzinfo=UTC)),
        tool=Tool(version="0.1.0"),
    )


UNSEEN = ("what is mounted at /data (volume): it is not in the export",)


class TestVerdict:
    def test_it_is_as_grave_as_the_gravest(self) -> None:
        assert report().verdict == "suspicious"
        assert report([DIFFERENCES[3]], ()).verdict == "drifted"
        assert report([], CONFIGURATION[:1]).verdict == "suspicious"
        assert report([], CONFIGURATION[1:], ()).verdict == "expected-changes-only"
        assert report([], ()).verdict == "expected-changes-only"
        assert report([], (), ()).verdict == "identical"

    def test_what_was_not_looked_at_is_never_called_identical(self) -> None:
        unsure = report([], (), (), UNSEEN)
        assert unsure.verdict == "no-difference-seen"
        for text in (unsure.headline, page_text(unsure), markdown_text(unsure), unsure.json_text(), sarif_text(unsure)):
            assert "identical" not in text.lower()
        assert "not everything was looked at" in report([], (), (EXPECTED,), UNSEEN).headline

    def test_what_was_not_looked_at_is_told_in_every_form(self) -> None:
        unsure = report(unproven=UNSEEN)
        assert unsure.data()["unproven"] == list(UNSEEN)
        assert UNSEEN[0] in page_text(unsure)
        assert UNSEEN[0] in markdown_text(unsure)
        assert UNSEEN[0] in sarif_text(unsure)

    def test_totals_count_configuration_and_leave_out_what_is_expected(self) -> None:
        totals = report().totals
        assert (totals.findings, totals.configuration, totals.expected, totals.expected_configuration) == (5, 1, 1, 1)
        assert sum(totals.by_severity.values()) == 6


class TestJson:
    def test_it_is_what_its_schema_says(self) -> None:
        jsonschema.validate(json.loads(report().json_text()), Report.model_json_schema(by_alias=True))

    def test_it_reads_back_as_the_same_report(self) -> None:
        assert Report.model_validate_json(report().json_text()) == report()

    def test_it_is_ascii_and_paths_are_exact(self) -> None:
        text = report().json_text()
        assert re.fullmatch(r"[\n -~]*", text)
        told = {one["path"]: one.get("pathBase64") for one in json.loads(text)["findings"]}
        assert told["/usr/bin/find"] is None
        assert told["/srv/\\xff\\xfe"] == "c3J2L//+"
        assert len([path for path in told if "\\u202e" in path]) == 1


class TestSarif:
    def test_every_finding_is_a_result_and_what_is_expected_is_suppressed(self) -> None:
        run = sarif(report())["runs"][0]
        assert len(run["results"]) == 8
        suppressed = [one for one in run["results"] if "suppressions" in one]
        assert [one["ruleId"] for one in suppressed] == ["configuration.mount.known", "engine"]
        assert {one["level"] for one in run["results"]} == {"error", "warning", "note"}

    def test_rules_and_results_fit_together(self) -> None:
        run = sarif(report())["runs"][0]
        rules = run["tool"]["driver"]["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        assert all(rules[one["ruleIndex"]]["id"] == one["ruleId"] for one in run["results"])

    def test_paths_are_uris_that_give_the_bytes_back(self) -> None:
        uris = [
            one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
            for one in sarif(report())["runs"][0]["results"]
            if "physicalLocation" in one["locations"][0]
        ]
        assert "srv/%FF%FE" in uris
        assert "usr/bin/find" in uris
        assert all(re.fullmatch(r"[A-Za-z0-9._~/%-]+", uri) for uri in uris)

    def test_a_finding_keeps_its_fingerprint_from_one_run_to_the_next(self) -> None:
        def prints(told: Report) -> list[str]:
            return [one["partialFingerprints"]["goldsmithFinding/v1"] for one in sarif(told)["runs"][0]["results"]]

        assert prints(report()) == prints(report(unproven=UNSEEN))
        assert len(set(prints(report()))) == 8


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


class TestPage:
    def test_it_loads_nothing_and_runs_nothing(self) -> None:
        found = Elements(page_text(report()))
        assert not {tag for tag, _ in found.tags} & {"script", "img", "link", "iframe", "object", "form", "a", "base"}
        for _, attributes in found.tags:
            assert not {name for name in attributes if name in ("src", "href", "style") or name.startswith("on")}
        assert "url(" not in page_text(report())
        assert "@import" not in page_text(report())

    def test_its_policy_allows_its_own_style_and_nothing_else(self) -> None:
        policies = [a["content"] for _, a in Elements(page_text(report())).tags if a.get("http-equiv")]
        assert len(policies) == 1
        assert re.fullmatch(
            r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]+'; base-uri 'none'; form-action 'none'",
            policies[0] or "",
        )

    def test_a_name_is_text_whatever_it_is_made_of(self) -> None:
        page = page_text(report())
        assert "<script" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "/usr/bin/<script>alert(1)</script>&\"'`|\\x1b[2J\\u202egnp.exe\\n\\t# x" in Elements(page).text

    def test_the_summary_comes_first_and_groups_by_gravity(self) -> None:
        page = page_text(report())
        places = [page.index(part) for part in ("<h1>", 'class="tiles"', "<h2>Critical", "<h2>High", "<h2>Medium")]
        assert places == sorted(places)
        assert "Expected changes (2)" in page

    def test_it_says_when_more_was_found_than_is_listed(self) -> None:
        told = report()
        more = told.model_copy(update={"totals": told.totals.model_copy(update={"by_severity": {"critical": 5000}})})
        assert "4,998 more, counted but not listed" in page_text(more)


class TestMarkdown:
    def test_each_finding_is_one_row_of_a_table(self) -> None:
        rows = [line for line in markdown_text(report()).splitlines() if line.startswith("|")]
        assert len([row for row in rows if "/usr/bin/find" in row]) == 1
        for row in rows:
            cells = re.split(r"(?<!\\)\|", row)
            assert len(cells) in (4, 5), row

    @pytest.mark.parametrize("text", ["a`b", "``", "a|b", "x", "", "`a", "a```b"])
    def test_nothing_ends_a_code_span_early(self, text: str) -> None:
        told = code(text)
        fence = re.match("`+", told)
        assert fence is not None
        inner = told[len(fence[0]) : -len(fence[0])]
        assert fence[0] not in inner
        assert told.endswith(fence[0])

    def test_a_name_cannot_become_markup(self) -> None:
        text = markdown_text(report())
        assert "\x1b" not in text
        assert "\u202e" not in text
        subject = report().model_copy(
            update={"subject": report().subject.model_copy(update={"name": "<b>[x](http://evil.example)"})}
        )
        heading = markdown_text(subject).splitlines()[0]
        assert "<" not in heading
        assert "](" not in heading
