"""Exceptions: vulnerabilities that somebody answers for, with a reason, in a stated scope, until a stated day.

An exception holds for nothing that its scope does not name, and for no moment from `expires` on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from builder.policy.exceptions_purl import PackageUrl
from builder.scanning.findings import Vulnerability

VULNERABILITY = r"^[A-Za-z][A-Za-z0-9]*-[A-Za-z0-9._:-]{1,60}$"


def _printable(text: str) -> str:
    if not all(character.isprintable() or character == "\n" for character in text):
        raise ValueError("only printable characters are allowed")
    return text


def _package(text: str) -> str:
    if text.startswith("pkg:"):
        PackageUrl.parse(text)
    elif not re.fullmatch(r"[A-Za-z0-9@][A-Za-z0-9._+@/-]*", text):
        raise ValueError("a package's name or package URL is needed")
    return text


VulnerabilityId = Annotated[str, StringConstraints(pattern=VULNERABILITY)]
PackageScope = Annotated[str, StringConstraints(max_length=500), AfterValidator(_package)]
RecipeScope = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
DigestScope = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Owner = Annotated[
    str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), AfterValidator(_printable)
]
Reason = Annotated[
    str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True), AfterValidator(_printable)
]


class Status(StrEnum):
    """What is claimed, in OpenVEX's words. `affected` is a risk that the owner accepts until the exception expires."""

    NOT_AFFECTED = "not_affected"
    AFFECTED = "affected"
    FIXED = "fixed"


class Justification(StrEnum):
    """Why a package is not affected, in OpenVEX's words."""

    COMPONENT_NOT_PRESENT = "component_not_present"
    CODE_NOT_PRESENT = "vulnerable_code_not_present"
    CODE_NOT_EXECUTED = "vulnerable_code_not_in_execute_path"
    CODE_NOT_REACHABLE = "vulnerable_code_cannot_be_controlled_by_adversary"
    MITIGATED = "inline_mitigations_already_exist"


class Source(StrEnum):
    """Who says so: the organisation itself, or a supplier whose VEX file somebody here imported."""

    ORGANISATION = "organisation"
    SUPPLIER = "supplier"


class PolicyException(BaseModel):
    """One vulnerability, excepted within a scope: what is None may be anything.

    `package` is a package's name, or a package URL that may leave out version and qualifiers; `recipe` is a recipe's
    name, `digest` an image's manifest. `document_digest` is of the OpenVEX document that says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-z]{26}$")]
    vulnerability: VulnerabilityId
    package: PackageScope | None = None
    recipe: RecipeScope | None = None
    digest: DigestScope | None = None
    owner: Owner
    reason: Reason
    status: Status = Status.AFFECTED
    justification: Justification | None = None
    created: AwareDatetime
    expires: AwareDatetime
    source: Source = Source.ORGANISATION
    document_digest: DigestScope | None = Field(default=None)

    @model_validator(mode="after")
    def _scoped(self) -> Self:
        if self.package is None and self.recipe is None and self.digest is None:
            raise ValueError("a scope is needed: package, recipe or digest")
        if self.expires <= self.created:
            raise ValueError("expires: it must be later than its creation")
        if self.justification is not None and self.status is not Status.NOT_AFFECTED:
            raise ValueError("justification: only not_affected has one")
        return self

    def expired(self, now: datetime) -> bool:
        return self.expires <= now

    def covers(self, vulnerability: Vulnerability, *, recipe: str, digest: str) -> bool:
        """Whether its scope holds this finding, in this image of this recipe; its expiry is not looked at."""
        return (
            self.vulnerability == vulnerability.id
            and self.recipe in (None, recipe)
            and self.digest in (None, digest)
            and (self.package is None or _names(self.package, vulnerability))
        )


def matching(
    exceptions: Iterable[PolicyException], vulnerability: Vulnerability, *, recipe: str, digest: str, now: datetime
) -> PolicyException | None:
    """The exception that holds for a finding, of several the one that holds longest."""
    found = [
        one for one in exceptions if not one.expired(now) and one.covers(vulnerability, recipe=recipe, digest=digest)
    ]
    return max(found, key=lambda one: (one.expires, one.id), default=None)


def expired(
    exceptions: Iterable[PolicyException], vulnerability: Vulnerability, *, recipe: str, digest: str, now: datetime
) -> tuple[PolicyException, ...]:
    """The exceptions that would hold for a finding, had they not expired, the newest first."""
    found = [one for one in exceptions if one.expired(now) and one.covers(vulnerability, recipe=recipe, digest=digest)]
    return tuple(sorted(found, key=lambda one: (one.expires, one.id), reverse=True))


def _names(scope: str, vulnerability: Vulnerability) -> bool:
    source = vulnerability.source_package
    if not scope.startswith("pkg:"):
        return scope in (vulnerability.package, source)
    if vulnerability.purl is None:
        return False
    try:
        installed = PackageUrl.parse(vulnerability.purl)
    except ValueError:
        return False
    wanted = PackageUrl.parse(scope)
    return wanted.names(installed) or (source is not None and wanted.names(installed.of_source(source)))
