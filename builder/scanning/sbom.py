"""Bills of materials as Trivy writes them (CycloneDX and SPDX, both JSON): which packages they name."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.scanning.errors import ScanReportInvalid


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


_Document = TypeVar("_Document", bound=_Part)


class _Component(_Part):
    purl: str | None = None


class _CycloneDx(_Part):
    bom_format: str = Field(alias="bomFormat", pattern="^CycloneDX$")
    components: list[_Component] = []


class _ExternalReference(_Part):
    type: str = Field(alias="referenceType")
    locator: str = Field(alias="referenceLocator")


class _SpdxPackage(_Part):
    references: list[_ExternalReference] = Field(default=[], alias="externalRefs")


class _Spdx(_Part):
    version: str = Field(alias="spdxVersion", pattern=r"^SPDX-2\.3$")
    packages: list[_SpdxPackage] = []


def cyclonedx_purls(document: bytes) -> frozenset[str]:
    """The package URLs of all components. Raises ScanReportInvalid."""
    bom = _read(_CycloneDx, document, "CycloneDX")
    return frozenset(component.purl for component in bom.components if component.purl)


def spdx_purls(document: bytes) -> frozenset[str]:
    """The package URLs of all packages (SPDX 2.3, section 7.21). Raises ScanReportInvalid."""
    bom = _read(_Spdx, document, "SPDX")
    return frozenset(ref.locator for package in bom.packages for ref in package.references if ref.type == "purl")


def check_complete(purls: frozenset[str], cyclonedx: bytes, spdx: bytes) -> None:
    """Both documents must name every package that the scan saw. Raises ScanReportInvalid."""
    for name, named in (("CycloneDX", cyclonedx_purls(cyclonedx)), ("SPDX", spdx_purls(spdx))):
        lacking = sorted(purls - named)
        if lacking:
            raise ScanReportInvalid(f"Trivy's {name} document lacks {len(lacking)} packages, {lacking[0]} for one")


def _read(model: type[_Document], document: bytes, name: str) -> _Document:
    try:
        return model.model_validate(json.loads(document))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ScanReportInvalid(
            f"Trivy's {name} document is not in the known form: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None
    except (ValueError, RecursionError):
        raise ScanReportInvalid(f"Trivy's {name} document is not JSON: it is cut short or garbled") from None
