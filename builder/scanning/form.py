"""The form of Trivy's JSON report (SchemaVersion 2), and what it says in our words."""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from builder.scanning.findings import (
    Cvss,
    Findings,
    License,
    Misconfiguration,
    OperatingSystem,
    Package,
    Secret,
    Severity,
    Text,
    Vulnerability,
)

_PASSED = "PASS"


class _Part(BaseModel):
    """A part of the report. Unknown keys are no concern of ours; known ones must have their type."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", alias_generator=to_pascal)


class _Identifier(_Part):
    purl: Text | None = Field(default=None, alias="PURL")
    uid: str | None = Field(default=None, alias="UID")


class _Layer(_Part):
    diff_id: Text | None = Field(default=None, alias="DiffID")


class _Package(_Part):
    name: Text
    identifier: _Identifier = _Identifier()
    epoch: int = 0
    version: Text = ""
    release: Text = ""
    src_name: Text | None = None
    arch: Text | None = None
    licenses: list[Text] = []
    layer: _Layer = _Layer()
    file_path: Text | None = None

    def told(self, target_class: str) -> Package:
        epoch = f"{self.epoch}:" if self.epoch else ""
        release = f"-{self.release}" if self.release else ""
        return Package(
            name=self.name,
            version=f"{epoch}{self.version}{release}",
            purl=self.identifier.purl,
            source_package=self.src_name,
            architecture=self.arch,
            licenses=tuple(self.licenses),
            layer=self.layer.diff_id,
            path=self.file_path,
            target_class=target_class,
        )


class _Named(_Part):
    name: Text


class _Scores(_Part):
    """What one source says of a vulnerability, by CVSS version."""

    v2_vector: Text | None = None
    v2_score: float | None = None
    v3_vector: Text | None = None
    v3_score: float | None = None
    v40_vector: Text | None = None
    v40_score: float | None = None

    def told(self, source: str) -> list[Cvss]:
        given = (
            ("2.0", self.v2_vector, self.v2_score),
            ("3.0" if (self.v3_vector or "").startswith("CVSS:3.0/") else "3.1", self.v3_vector, self.v3_score),
            ("4.0", self.v40_vector, self.v40_score),
        )
        return [
            Cvss(source=source, version=version, score=score, vector=vector)
            for version, vector, score in given
            if vector or score
        ]


class _Vulnerability(_Part):
    vulnerability_id: Text = Field(alias="VulnerabilityID", min_length=1)
    vendor_ids: list[Text] = Field(default=[], alias="VendorIDs")
    pkg_name: Text = Field(min_length=1)
    pkg_path: Text | None = None
    pkg_identifier: _Identifier = _Identifier()
    installed_version: Text = ""
    fixed_version: Text = ""
    status: Text = "unknown"
    severity: Severity = Field(strict=False)
    severity_source: Text | None = None
    title: Text | None = None
    primary_url: Text | None = Field(default=None, alias="PrimaryURL")
    references: list[Text] = []
    cvss: dict[str, _Scores] = Field(default={}, alias="CVSS")
    layer: _Layer = _Layer()
    data_source: _Named | None = None

    def told(self, result: Result) -> Vulnerability:
        return Vulnerability(
            id=self.vulnerability_id,
            package=self.pkg_name,
            installed=self.installed_version,
            fixed=self.fixed_version or None,
            severity=self.severity,
            severity_source=self.severity_source,
            status=self.status,
            title=self.title,
            purl=self.pkg_identifier.purl,
            target=result.target,
            data_source=self.data_source.name if self.data_source else None,
            source_package=result.source_of(self.pkg_identifier.uid),
            references=_references(self.primary_url, self.references),
            cvss=tuple(score for source, scores in sorted(self.cvss.items()) for score in scores.told(source)),
            layer=self.layer.diff_id,
            path=self.pkg_path,
            target_class=result.target_class or None,
            vendor_ids=tuple(self.vendor_ids),
        )


class _Secret(_Part):
    rule_id: Text = Field(alias="RuleID")
    category: Text | None = None
    title: Text | None = None
    severity: Severity = Field(strict=False)
    start_line: int = 0
    end_line: int | None = None
    layer: _Layer = _Layer()

    def told(self, result: Result) -> Secret:
        return Secret(
            rule=self.rule_id,
            title=self.title,
            severity=self.severity,
            target=result.target,
            line=self.start_line,
            end_line=self.end_line,
            category=self.category,
            layer=self.layer.diff_id,
            target_class=result.target_class or None,
        )


class _Misconfiguration(_Part):
    id: Text = Field(alias="ID")
    title: Text
    description: Text | None = None
    message: Text = ""
    resolution: Text | None = None
    severity: Severity = Field(strict=False)
    status: Text
    primary_url: Text | None = Field(default=None, alias="PrimaryURL")
    references: list[Text] = []

    def told(self, result: Result) -> Misconfiguration:
        return Misconfiguration(
            id=self.id,
            title=self.title,
            severity=self.severity,
            message=self.message,
            resolution=self.resolution,
            target=result.target,
            description=self.description,
            references=_references(self.primary_url, self.references),
            target_class=result.target_class or None,
        )


class _License(_Part):
    name: Text
    pkg_name: Text | None = None
    file_path: Text | None = None
    severity: Severity = Field(strict=False)
    category: Text
    confidence: float

    def told(self, result: Result) -> License:
        return License(
            name=self.name,
            package=self.pkg_name or None,
            path=self.file_path or None,
            severity=self.severity,
            category=self.category,
            confidence=self.confidence,
            target=result.target,
            target_class=result.target_class or None,
        )


class Result(_Part):
    """What Trivy found in one place: the system's packages, those of a language, one file, the configuration."""

    target: Text = ""
    target_class: Text = Field(default="", alias="Class")
    packages: list[_Package] = []
    vulnerabilities: list[_Vulnerability] = []
    secrets: list[_Secret] = []
    misconfigurations: list[_Misconfiguration] = []
    licenses: list[_License] = []

    def source_of(self, uid: str | None) -> str | None:
        """The source package of the package with that identifier."""
        return self._sources.get(uid) if uid else None

    @cached_property
    def _sources(self) -> dict[str, str]:
        return {p.identifier.uid: p.src_name for p in self.packages if p.identifier.uid and p.src_name}


class _OperatingSystem(_Part):
    family: Text = ""
    name: Text = ""
    end_of_life: bool = Field(default=False, alias="EOSL")


class _Metadata(_Part):
    os: _OperatingSystem | None = Field(default=None, alias="OS")
    repo_digests: list[str] = []


class TrivyReport(_Part):
    schema_version: int
    artifact_name: str
    metadata: _Metadata
    results: list[Result] = []

    def findings(self) -> Findings:
        """Licences that Trivy cannot place are findings too: of category unknown."""
        results = self.results
        return Findings(
            vulnerabilities=tuple(found.told(r) for r in results for found in r.vulnerabilities),
            secrets=tuple(found.told(r) for r in results for found in r.secrets),
            misconfigurations=tuple(m.told(r) for r in results for m in r.misconfigurations if m.status != _PASSED),
            licenses=tuple(found.told(r) for r in results for found in r.licenses),
        )

    def packages(self) -> tuple[Package, ...]:
        return tuple(package.told(r.target_class) for r in self.results for package in r.packages)

    def operating_system(self) -> OperatingSystem | None:
        found = self.metadata.os
        if not found or not found.family:
            return None
        return OperatingSystem(family=found.family, name=found.name, end_of_life=found.end_of_life)


def _references(primary: str | None, others: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*([primary] if primary else []), *others]))
