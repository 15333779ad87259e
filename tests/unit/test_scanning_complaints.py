"""Which lines of Trivy's log mean that it has not looked at everything."""

import pytest

from builder.scanning.complaints import complaint_in

WHEN = "2026-11-24T00:00:00Z"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f'{WHEN}\tERROR\t[secret] Failed to read content during streaming\terr="disk"', "Failed to read content"),
        (f"{WHEN}\tERROR\tNobody has ever seen this", "Nobody has ever seen this"),
        (f"{WHEN}\tFATAL\tFatal error\trun error", "Fatal error"),
        (f'{WHEN}\tWARN\tUnsupported os\tfamily="haiku"', "Unsupported os"),
        (f'{WHEN}\tWARN\t[dpkg] Parse error\tfile_path="var/lib/dpkg/status"', "Parse error"),
        (f'{WHEN}\tWARN\t[dpkg] Invalid version\tOS="debian" package="x"', "Invalid version"),
        (f"{WHEN}\t\x1b[31mERROR\x1b[0m\tIn colour", "In colour"),
        ("panic: runtime error: index out of range", "panic"),
        ("fatal error: all goroutines are asleep", "fatal error"),
        ("Error: unknown flag", "unknown flag"),
    ],
)
def test_an_incomplete_result_is_complained_of(line: str, complaint: str) -> None:
    assert complaint in (complaint_in(line) or "")


@pytest.mark.parametrize(
    "line",
    [
        f'{WHEN}\tERROR\tFalling back to embedded checks\terr="no network"',
        f'{WHEN}\tERROR\t[misconfig] Falling back to embedded checks\terr="no network"',
        f'{WHEN}\tERROR\t[gobinary] Could not parse -ldflags found in build info\terr="eof"',
        f"{WHEN}\tINFO\t[vuln] Vulnerability scanning is enabled",
        f"{WHEN}\tINFO\tERROR\tthis is only quoted",
        f"{WHEN}\tWARN\t[vulnerability] Unable to get vulnerability details (CVE may be rejected)",
        f"{WHEN}\tWARN\tUsing severities from other vendors for some vulnerabilities.",
        "",
        "some progress",
    ],
)
def test_what_loses_nothing_is_let_pass(line: str) -> None:
    assert complaint_in(line) is None


def test_what_is_quoted_from_an_image_is_short_and_printable() -> None:
    complaint = complaint_in(f"{WHEN}\tERROR\tbad \x1b[2J name " + "x" * 9000)
    assert complaint is not None
    assert complaint.isprintable()
    assert len(complaint) <= 300
