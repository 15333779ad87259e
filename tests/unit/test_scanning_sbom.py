"""A bill of materials that lacks a package is no bill of materials."""

import json

import pytest

from builder.scanning.errors import ScanReportInvalid
from builder.scanning.sbom import check_complete, cyclonedx_purls, spdx_purls

OPENSSL, ZLIB = "pkg:deb/debian/openssl@3.0.9-1", "pkg:deb/debian/zlib1g@1.2.13"


def cyclonedx(*purls: str) -> bytes:
    components = [{"type": "library", "name": "x", "purl": purl} for purl in purls]
    return json.dumps({"bomFormat": "CycloneDX", "components": [{"type": "operating-system"}, *components]}).encode()


def spdx(*purls: str) -> bytes:
    packages = [{"name": "x", "externalRefs": [{"referenceType": "purl", "referenceLocator": purl}]} for purl in purls]
    return json.dumps({"spdxVersion": "SPDX-2.3", "packages": [{"name": "debian"}, *packages]}).encode()


def test_the_packages_of_both_forms_are_read() -> None:
    assert cyclonedx_purls(cyclonedx(OPENSSL, ZLIB)) == spdx_purls(spdx(OPENSSL, ZLIB)) == {OPENSSL, ZLIB}


def test_complete_documents_pass() -> None:
    check_complete(frozenset({OPENSSL}), cyclonedx(OPENSSL, ZLIB), spdx(OPENSSL))


@pytest.mark.parametrize(
    ("first", "second", "name"), [([OPENSSL], [OPENSSL, ZLIB], "CycloneDX"), ([OPENSSL, ZLIB], [], "SPDX")]
)
def test_a_document_that_lacks_a_package_is_refused(first: list[str], second: list[str], name: str) -> None:
    with pytest.raises(ScanReportInvalid, match=f"{name} document lacks"):
        check_complete(frozenset({OPENSSL, ZLIB}), cyclonedx(*first), spdx(*second))


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b'{"bomFormat": "CycloneDX", "components": [1]}', b'{"a":' * 99999]
)
def test_what_is_no_document_is_refused(document: bytes) -> None:
    with pytest.raises(ScanReportInvalid):
        cyclonedx_purls(document)
    with pytest.raises(ScanReportInvalid):
        spdx_purls(document)
