"""OpenVEX documents: how an exception is written as one, and which exceptions a supplier's gives.

Form and rules follow the OpenVEX specification v0.2.0. It has no words for owner and expiry: these stand in the
exceptions themselves, which are signed together with the document.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import rfc8785
from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from builder import __version__
from builder.errors import Fault, Rejected
from builder.policy.exceptions import Justification, PolicyException, Status

CONTEXT = "https://openvex.dev/ns/v0.2.0"
MEDIA_TYPE = "application/vnd.openvex+json"
_MOST_STATEMENTS = 10_000
_NonEmpty = Annotated[str, StringConstraints(min_length=1)]


class VexInvalid(Rejected):
    slug = "vex-invalid"
    title = "The file is not an OpenVEX document of a known form"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class VexVulnerability(_Part):
    iri: str | None = Field(default=None, alias="@id")
    name: _NonEmpty
    description: str | None = None
    aliases: tuple[str, ...] = ()


class VexIdentifiers(_Part):
    purl: str | None = None
    cpe22: str | None = Field(default=None, validation_alias=AliasChoices("cpe22", "@cpe22"))
    cpe23: str | None = Field(default=None, validation_alias=AliasChoices("cpe23", "@cpe23"))


class VexComponent(_Part):
    iri: str | None = Field(default=None, alias="@id")
    identifiers: VexIdentifiers | None = None
    hashes: dict[str, str] | None = None

    @property
    def purl(self) -> str | None:
        if self.identifiers is not None and self.identifiers.purl:
            return self.identifiers.purl
        return self.iri if self.iri is not None and self.iri.startswith("pkg:") else None


class VexProduct(VexComponent):
    subcomponents: tuple[VexComponent, ...] = ()


class VexStatement(_Part):
    iri: str | None = Field(default=None, alias="@id")
    version: int | None = None
    vulnerability: VexVulnerability
    timestamp: AwareDatetime | None = None
    last_updated: AwareDatetime | None = None
    products: tuple[VexProduct, ...] = ()
    status: Literal["not_affected", "affected", "fixed", "under_investigation"]
    supplier: str | None = None
    status_notes: str | None = None
    justification: Justification | None = None
    impact_statement: str | None = None
    action_statement: str | None = None
    action_statement_timestamp: AwareDatetime | None = None

    @model_validator(mode="after")
    def _explained(self) -> Self:
        if self.status == "not_affected" and not (self.justification or self.impact_statement):
            raise ValueError("not_affected needs a justification or an impact_statement")
        if self.status == "affected" and not self.action_statement:
            raise ValueError("affected needs an action_statement")
        return self


class VexDocument(_Part):
    context: Literal["https://openvex.dev/ns/v0.2.0"] = Field(alias="@context")
    iri: _NonEmpty = Field(alias="@id")
    author: _NonEmpty
    role: str | None = None
    timestamp: AwareDatetime
    last_updated: AwareDatetime | None = None
    version: int = Field(ge=1)
    tooling: str | None = None
    statements: tuple[VexStatement, ...] = Field(min_length=1, max_length=_MOST_STATEMENTS)


def read_document(content: bytes) -> tuple[VexDocument, dict[str, Any]]:
    """The document, and its JSON as it stood. Raises VexInvalid."""
    try:
        data = json.loads(content)
        return VexDocument.model_validate_json(content), data
    except ValidationError as error:
        faults = [
            Fault(field=".".join(map(str, entry["loc"])) or None, message=entry["msg"])
            for entry in error.errors(include_input=False, include_url=False)[:20]
        ]
        told = "; ".join(str(fault) for fault in faults[:3])
        raise VexInvalid(f"the document is not OpenVEX v0.2.0: {told}", errors=faults) from None
    except (ValueError, RecursionError) as error:
        raise VexInvalid("the document is not JSON") from error


def canonical(document: dict[str, Any]) -> bytes:
    """RFC 8785 JSON: what a document's digest is over. Raises VexInvalid for numbers that JSON cannot carry."""
    try:
        return rfc8785.dumps(document)
    except rfc8785.CanonicalizationError as error:
        raise VexInvalid(f"the document has no canonical form: {error}") from error


def document_of(exception: PolicyException) -> dict[str, Any]:
    """The document that says what one exception of the organisation says."""
    statement: dict[str, Any] = {
        "vulnerability": {"name": exception.vulnerability},
        "products": [_product(exception)],
        "status": str(exception.status),
        "status_notes": f"Owner: {exception.owner}. Until {_time(exception.expires)}. {exception.reason}",
    }
    if exception.status is Status.AFFECTED:
        statement["action_statement"] = exception.reason
    elif exception.justification is not None:
        statement["justification"] = str(exception.justification)
    elif exception.status is Status.NOT_AFFECTED:
        statement["impact_statement"] = exception.reason
    return {
        "@context": CONTEXT,
        "@id": f"urn:goldsmith:vex:{exception.id}",
        "author": exception.owner,
        "timestamp": _time(exception.created),
        "version": 1,
        "tooling": f"goldsmith {__version__}",
        "statements": [statement],
    }


def _product(exception: PolicyException) -> dict[str, Any]:
    """The image, all images of the recipe, or the package wherever it is; within an image the package is a part."""
    package = exception.package
    part: dict[str, Any] | None = None
    if package is not None and package.startswith("pkg:"):
        part = {"@id": package, "identifiers": {"purl": package}}
    elif package is not None:
        part = {"@id": f"urn:goldsmith:package:{package}"}
    if exception.digest is not None:
        name, hexadecimal = exception.recipe or "image", exception.digest.removeprefix("sha256:")
        image: dict[str, Any] = {"@id": f"pkg:oci/{name}@sha256%3A{hexadecimal}", "hashes": {"sha-256": hexadecimal}}
    elif exception.recipe is not None:
        image = {"@id": f"urn:goldsmith:recipe:{exception.recipe}"}
    else:
        assert part is not None, "an exception has a scope"
        return part
    return image | ({"subcomponents": [part]} if part else {})


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def usable_statements(document: VexDocument) -> tuple[list[tuple[str, str, VexStatement]], list[str]]:
    """What of a supplier's document can be an exception: vulnerability, package URL and statement. And why the rest
    cannot, one line each."""
    usable: list[tuple[str, str, VexStatement]] = []
    left_out: list[str] = []
    for statement in document.statements:
        name = statement.vulnerability.name
        if statement.status not in (Status.NOT_AFFECTED, Status.FIXED):
            left_out.append(f"{name}: {statement.status} excuses nothing")
            continue
        purls = _packages(statement.products)
        if not purls:
            left_out.append(f"{name}: no product names a package by its package URL")
        usable += [
            (known, purl, statement)
            for purl in purls
            for known in dict.fromkeys((name, *statement.vulnerability.aliases))
        ]
    return usable, left_out


def _packages(products: Sequence[VexProduct]) -> list[str]:
    """Packages alone: what is said of a package within a product is not said of it elsewhere."""
    purls = [one.purl for one in products if not one.subcomponents]
    return list(dict.fromkeys(purl for purl in purls if purl is not None and not purl.startswith("pkg:oci/")))
