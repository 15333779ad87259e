"""Build the sample database: advisories.yaml as a Trivy database (schema 2) that says of itself that it is a sample."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from builder.scanning.database_file import SAMPLE_MARKER
from builder.scanning.sample import bolt

SOURCE_NAME = "Goldsmith sample (not complete)"
_STATUS = {"affected": 2, "will_not_fix": 5, "fix_deferred": 6}
_SEVERITY = {"low": 1, "medium": 2, "high": 3, "critical": 4}
# Trivy searches every bucket whose name begins with `pip::`, and the Debian ones by their exact name.
_BUCKETS = {"debian 12": "debian 12", "debian 13": "debian 13", "pip": f"pip::{SOURCE_NAME}"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Package(_Strict):
    """A source package of Debian, or a package of PyPI under its normalised name."""

    platform: Literal["debian 12", "debian 13", "pip"]
    name: str
    fixed: str | None = None
    status: Literal["affected", "will_not_fix", "fix_deferred"] | None = None
    vulnerable: list[str] = []
    advisory: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> _Package:
        if (self.fixed is None) == (self.status is None):
            raise ValueError("give either 'fixed' or 'status'")
        if (self.platform == "pip") != bool(self.vulnerable):
            raise ValueError("'vulnerable' ranges are for pip, and pip needs them")
        return self


class _Vulnerability(_Strict):
    id: str = Field(pattern=r"^CVE-[0-9]{4}-[0-9]{4,}$")
    title: str
    severity: Literal["low", "medium", "high", "critical"] | None = None
    rated_by: Literal["nvd", "debian"] = "nvd"
    packages: list[_Package] = Field(min_length=1)


class _Advisories(_Strict):
    vulnerabilities: list[_Vulnerability]


@dataclass(frozen=True)
class SampleDatabase:
    """`archive` is both files at the top of a tar.gz, as Trivy publishes its own."""

    trivy_db: bytes
    metadata: bytes
    archive: bytes

    def write(self, directory: Path) -> None:
        """Put trivy.db and metadata.json into `directory`, made if need be: a `DirectorySource`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "trivy.db").write_bytes(self.trivy_db)
        (directory / "metadata.json").write_bytes(self.metadata)


def build_sample(updated_at: datetime, next_update: datetime) -> SampleDatabase:
    """The same dates give the same bytes. Both must be aware; `updated_at` is what a limit on its age goes by."""
    text = files(__package__).joinpath("advisories.yaml").read_text(encoding="utf-8")
    advisories = _Advisories.model_validate(yaml.safe_load(text))
    trivy_db = bolt.write(_tree(advisories))
    moments = {"NextUpdate": next_update, "UpdatedAt": updated_at, "DownloadedAt": updated_at}
    metadata = _json({"Version": 2, **{name: _moment(value) for name, value in moments.items()}})
    members = {"trivy.db": trivy_db, "metadata.json": metadata}
    return SampleDatabase(trivy_db, metadata, _archive(members, int(updated_at.timestamp())))


def _tree(advisories: _Advisories) -> bolt.Bucket:
    platforms: dict[bytes, dict[bytes, dict[bytes, bytes]]] = {}
    details: dict[bytes, bytes] = {}
    for vulnerability in advisories.vulnerabilities:
        key = vulnerability.id.encode()
        details[key] = _details(vulnerability)
        for package in vulnerability.packages:
            bucket = platforms.setdefault(_BUCKETS[package.platform].encode(), {})
            bucket.setdefault(package.name.encode(), {})[key] = _advisory(package)
    source = {platform: _source(platform.startswith(b"pip")) for platform in platforms}
    note = b"A few real advisories for trying Goldsmith out. Not a database to judge an image by."
    return {**platforms, b"data-source": source, b"vulnerability": details, SAMPLE_MARKER: {b"note": note}}


def _source(pip: bool) -> bytes:
    url = "https://github.com/advisories" if pip else "https://security-tracker.debian.org/tracker/"
    return _json({"ID": "ghsa" if pip else "debian", "Name": SOURCE_NAME, "URL": url})


def _details(vulnerability: _Vulnerability) -> bytes:
    details: dict[str, object] = {
        "Title": vulnerability.title,
        "References": [f"https://nvd.nist.gov/vuln/detail/{vulnerability.id}"],
    }
    if vulnerability.severity is not None:
        details["Severity"] = vulnerability.severity.upper()
        details["VendorSeverity"] = {vulnerability.rated_by: _SEVERITY[vulnerability.severity]}
    return _json(details)


def _advisory(package: _Package) -> bytes:
    advisory: dict[str, object] = {}
    if package.platform == "pip":
        advisory["VulnerableVersions"] = package.vulnerable
        advisory["PatchedVersions"] = (package.fixed or "").split(", ")
    elif package.fixed is not None:
        advisory["FixedVersion"] = package.fixed
    if package.status is not None:
        advisory["Status"] = _STATUS[package.status]
    if package.advisory is not None:
        advisory["VendorIDs"] = [package.advisory]
    return _json(advisory)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _archive(members: dict[str, bytes], modified: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o644, modified
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), compresslevel=9, mtime=0)
