"""A Trivy database with planted advisories of every kind, in the names and words of real ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from builder.scanning.sample import bolt

_WILL_NOT_FIX, _AFFECTED, _DEFERRED = 5, 2, 6


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _rated(severity: str, number: int) -> bytes:
    return _json(
        {
            "Title": f"planted, {severity.lower()}",
            "Severity": severity,
            "VendorSeverity": {"nvd": number},
            "CVSS": {
                "nvd": {"V2Vector": "AV:N/AC:L/Au:N/C:P/I:P/A:P", "V2Score": 7.5,
                        "V3Vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "V3Score": 9.8},
                "ghsa": {"V40Score": 9.3,
                         "V40Vector": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"},
            },
            "References": ["https://example.org/advisory", "https://example.org/patch"],
        }
    )  # fmt: skip


DEBIAN = {
    "glibc": {"CVE-2023-4911": {"FixedVersion": "2.36-9+deb12u3", "VendorIDs": ["DSA-5514-1"]}},
    "gnutls28": {"CVE-2024-0567": {"FixedVersion": "3.7.9-2+deb12u2"}},
    "zlib": {"CVE-2023-45853": {"Status": _WILL_NOT_FIX, "Severity": 4}},
    "tar": {"CVE-2005-2541": {"Status": _AFFECTED, "Severity": 1}},
    "perl": {"CVE-2011-4116": {"Status": _DEFERRED, "Severity": 1}},
    # Trivy goes by source packages: an advisory under the name of a binary package is about another source.
    "libc6": {"CVE-2099-0001": {"FixedVersion": "99"}},
    "curl": {"CVE-2023-38545": {"FixedVersion": "7.88.1-10+deb12u4"}},
}
PIP = {
    "jinja2": {"CVE-2024-22195": {"VulnerableVersions": ["<3.1.3"], "PatchedVersions": ["3.1.3"]}},
    "requests": {"CVE-2023-32681": {"VulnerableVersions": [">=2.3.0, <2.31.0"], "PatchedVersions": ["2.31.0"]}},
}
NPM = {
    "lodash": {"CVE-2021-23337": {"VulnerableVersions": ["<4.17.21"], "PatchedVersions": ["4.17.21"]}},
    "minimist": {"CVE-2021-44906": {"VulnerableVersions": ["<1.2.6"], "PatchedVersions": ["1.2.6"]}},
}


def planted() -> bytes:
    tree: dict[str, dict[str, dict[str, object]]] = {
        "debian 12": DEBIAN, "pip::GitHub Security Advisory pip": PIP, "npm::GitHub Security Advisory npm": NPM,
    }  # fmt: skip
    buckets: bolt.Bucket = {
        platform.encode(): {
            package.encode(): {cve.encode(): _json(advisory) for cve, advisory in advisories.items()}
            for package, advisories in packages.items()
        }
        for platform, packages in tree.items()
    }
    sources = {"debian 12": ("debian", "Debian Security Tracker")}
    buckets[b"data-source"] = {
        platform.encode(): _json(dict(zip(("ID", "Name"), sources.get(platform, ("ghsa", platform)), strict=True)))
        for platform in tree
    }
    cves = {cve for packages in tree.values() for advisories in packages.values() for cve in advisories}
    buckets[b"vulnerability"] = {
        cve.encode(): _rated("LOW", 1) if cve.startswith(("CVE-2005", "CVE-2011")) else _rated("CRITICAL", 4)
        for cve in cves
    }
    return bolt.write(buckets)


def offer(directory: Path, content: bytes, age: timedelta = timedelta(hours=1)) -> None:
    """A directory source with that trivy.db."""
    directory.mkdir(parents=True, exist_ok=True)
    made = datetime.now(UTC) - age
    moments = {"UpdatedAt": made, "NextUpdate": made + timedelta(days=1), "DownloadedAt": made}
    (directory / "trivy.db").write_bytes(content)
    told = {"Version": 2, **{name: f"{moment:%Y-%m-%dT%H:%M:%SZ}" for name, moment in moments.items()}}
    incoming = directory / "incoming"
    incoming.write_text(json.dumps(told))
    incoming.replace(directory / "metadata.json")
