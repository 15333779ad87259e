"""What a scan found, by which scanner and which database. Immutable, and free of secret values by construction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict

# What a scanner calls the packages of the distribution, as against those of a language.
OS_PACKAGES = "os-pkgs"


class Severity(StrEnum):
    """How bad a finding is, in Trivy's words. `UNKNOWN` means that nobody has rated it yet, not that it is harmless."""

    UNKNOWN = "UNKNOWN"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


def _printable(value: object) -> object:
    """Names and paths come from the image: an escape sequence in one must not reach a terminal or a log."""
    if isinstance(value, str) and not value.isprintable():
        return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in value)
    return value


Text = Annotated[str, BeforeValidator(_printable)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Cvss(_Frozen):
    """A score that `source` (nvd, ghsa, redhat…) gives. `version` is of CVSS: 2.0, 3.0, 3.1 or 4.0."""

    source: Text
    version: Text
    score: float | None = None
    vector: Text | None = None


class Vulnerability(_Frozen):
    """A known vulnerability of one installed package. `fixed` is None while there is no fix.

    `status` is the data source's word: fixed, affected, will_not_fix, fix_deferred, end_of_life… `layer` is a diff ID,
    `path` where a package lies that no package manager of the system knows; `target_class` is os-pkgs or lang-pkgs;
    `vendor_ids` are advisories, such as DSA-5514-1.
    """

    id: Text
    package: Text
    installed: Text
    fixed: Text | None = None
    severity: Severity
    severity_source: Text | None = None
    status: Text
    title: Text | None = None
    purl: Text | None = None
    target: Text
    data_source: Text | None = None
    source_package: Text | None = None
    references: tuple[Text, ...] = ()
    cvss: tuple[Cvss, ...] = ()
    layer: Text | None = None
    path: Text | None = None
    target_class: Text | None = None
    vendor_ids: tuple[Text, ...] = ()


class Secret(_Frozen):
    """A place that looks like a secret: the file (`target`) and its lines, never the value."""

    rule: Text
    title: Text | None = None
    severity: Severity
    target: Text
    line: int
    end_line: int | None = None
    category: Text | None = None
    layer: Text | None = None
    target_class: Text | None = None


class Misconfiguration(_Frozen):
    """A check that the image's configuration fails."""

    id: Text
    title: Text
    severity: Severity
    message: Text
    resolution: Text | None = None
    target: Text
    description: Text | None = None
    references: tuple[Text, ...] = ()
    target_class: Text | None = None


class License(_Frozen):
    """A licence of a package, or of the file at `path`. `category` is Trivy's: forbidden, restricted, reciprocal,
    notice, permissive, unencumbered or unknown; `confidence` runs from 0 to 1."""

    name: Text
    package: Text | None = None
    path: Text | None = None
    severity: Severity
    category: Text
    confidence: float
    target: Text
    target_class: Text | None = None


class Findings(_Frozen):
    vulnerabilities: tuple[Vulnerability, ...] = ()
    secrets: tuple[Secret, ...] = ()
    misconfigurations: tuple[Misconfiguration, ...] = ()
    licenses: tuple[License, ...] = ()

    def vulnerabilities_by_severity(self) -> dict[Severity, int]:
        """How many of each severity, the severities without any included."""
        return _count(vulnerability.severity for vulnerability in self.vulnerabilities)


def _count(severities: Iterable[Severity]) -> dict[Severity, int]:
    counts = dict.fromkeys(Severity, 0)
    for severity in severities:
        counts[severity] += 1
    return counts


class Package(_Frozen):
    """An installed package. `version` is whole, with epoch and revision; `licenses` are what its metadata says."""

    name: Text
    version: Text
    purl: Text | None = None
    source_package: Text | None = None
    architecture: Text | None = None
    licenses: tuple[Text, ...] = ()
    layer: Text | None = None
    path: Text | None = None
    target_class: Text | None = None


class OperatingSystem(_Frozen):
    """The distribution found in the image, for example `debian` `12.12`.

    `end_of_life`: it gets no security updates any more, so what is known of its packages is not all.
    """

    family: Text
    name: Text
    end_of_life: bool = False


class ScannerIdentity(_Frozen):
    """The program that scanned: `sha256` is the lower-case hex digest of its binary."""

    name: str
    version: str
    sha256: str


class DatabaseIdentity(_Frozen):
    """The vulnerability database a scan rests on.

    `digest` is `sha256:<hex>` of trivy.db. `sample` is true for Goldsmith's own sample, which is not complete: a scan
    with it shows how things work, not that an image is free of known vulnerabilities. `stale` is true where it was
    older than the limit and used all the same, because a policy allowed that.
    """

    digest: str
    updated_at: AwareDatetime
    next_update: AwareDatetime
    downloaded_at: AwareDatetime
    source: str
    sample: bool
    stale: bool = False


@dataclass(frozen=True)
class ScanResult:
    """One scan of one image.

    `report` is Trivy's JSON without environment values, history and code excerpts; `cyclonedx` (1.7) and `spdx` (2.3)
    are JSON bills of materials that hold every package found; `sarif` (2.1.0) has the findings for other tools.
    `started_at` is UTC, `seconds` the duration of it all; `covered` tells whether the database has advisories for the
    operating system, None where nothing says which one it is.
    """

    reference: str
    findings: Findings
    package_count: int
    operating_system: OperatingSystem | None
    report: bytes
    cyclonedx: bytes
    spdx: bytes
    scanner: ScannerIdentity
    database: DatabaseIdentity
    started_at: datetime
    seconds: float
    packages: tuple[Package, ...] = ()
    sarif: bytes = b""
    covered: bool | None = None
