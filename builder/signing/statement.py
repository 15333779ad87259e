"""The in-toto Statement v1: a predicate, bound to the digests of what it speaks about.

Shapes follow the in-toto attestation specification, v1, `spec/v1/statement.md`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, field_validator

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"

SLSA_PROVENANCE: Final = "https://slsa.dev/provenance/v1"
VERIFICATION_SUMMARY: Final = "https://slsa.dev/verification_summary/v1"
VULNERABILITIES: Final = "https://in-toto.io/attestation/vulns/v0.1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
REFERENCE: Final = "https://in-toto.io/attestation/reference/v0.1"
CYCLONEDX_BOM: Final = "https://cyclonedx.org/bom"
OPENVEX: Final = "https://openvex.dev/ns/v0.2.0"
# Described in docs/formats/reproduction.md.
REPRODUCTION: Final = "urn:goldsmith:reproduction:v1"
# What cosign calls an image signature: a statement that says nothing but "this digest, signed by this identity".
COSIGN_SIGNATURE: Final = "https://sigstore.dev/cosign/sign/v1"

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
_Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64,128}$")]
_Algorithm = Literal["sha256", "sha384", "sha512"]


class Subject(BaseModel):
    """One thing a statement is about. Its digest identifies it, SHA-256 among others; the name is for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: dict[_Algorithm, _Hex]

    @field_validator("digest")
    @classmethod
    def _has_sha256(cls, digest: dict[_Algorithm, _Hex]) -> dict[_Algorithm, _Hex]:
        if len(digest.get("sha256", "")) != 64:
            raise ValueError("a SHA-256 digest of 64 hexadecimal digits is needed")
        return digest

    @classmethod
    def of(cls, name: str, digest: str) -> Self:
        """A subject from a digest in its OCI form, `sha256:<hex>`. Raises ValueError for any other."""
        algorithm, _, value = digest.partition(":")
        return cls.model_validate({"name": name, "digest": {algorithm: value}})

    @property
    def sha256(self) -> str:
        """The digest in its OCI form."""
        return f"sha256:{self.digest['sha256']}"


class Statement(BaseModel):
    """What is signed. `predicate` is any JSON object; `predicate_type` says how to read it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT_TYPE, alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: str = Field(alias="predicateType", min_length=1)
    predicate: dict[str, JsonValue]

    @classmethod
    def signature(cls, name: str, digest: str) -> Self:
        """The statement that is an image's signature."""
        return cls(subject=(Subject.of(name, digest),), predicateType=COSIGN_SIGNATURE, predicate={})

    def canonical(self) -> bytes:
        """The bytes to sign: canonical JSON (RFC 8785), so that equal statements are equal bytes.

        Raises ValueError for a number that JSON cannot carry exactly (beyond 2^53, or not finite).
        """
        return rfc8785.dumps(self.model_dump(by_alias=True))

    def speaks_of(self, digest: str) -> bool:
        """Whether a subject has this digest, `sha256:<hex>`."""
        return any(subject.sha256 == digest for subject in self.subject)
