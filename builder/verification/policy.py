"""What a verifier expects, as a document of its own: whom to trust, and what the image must be. docs/verifying.md."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from builder.errors import Fault, Rejected
from builder.ledger.note import parse_key
from builder.recipes.document import RecipeInvalid, parse
from builder.recipes.reading import faults_of, json_text
from builder.verification.beside import KINDS
from builder.verification.expected import Expected
from builder.verification.trust import Signatory

_Text = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[!-~]([ -~]*[!-~])?$")]
_Patterns = Annotated[list[_Text], Field(min_length=1, max_length=100)]


def _key(text: str) -> str:
    try:
        parse_key(text)
    except Rejected as error:
        raise ValueError(
            f"no verifier key of a ledger: {error.detail}; `goldsmith ledger key show` prints it"
        ) from error
    return text


class VerificationPolicyInvalid(Rejected):
    """A policy with a typo would expect less than its writer thinks, so nothing is verified by it."""

    slug = "verification-policy-invalid"
    title = "The verification policy is not valid"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


class Signer(_Strict):
    """As in the signing certificate: exactly these, no patterns."""

    identity: _Text
    issuer: _Text


class VerificationMetadata(_Strict):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$")] | None = None
    description: Annotated[str, StringConstraints(max_length=4000)] = ""


class VerificationSpec(_Strict):
    """Of a list one must match; in patterns `*` stands for anything. What is left out is not expected; an empty list is
    refused, as it would expect nothing or forbid everything."""

    trusted_root: _Text | None = Field(
        default=None, description="A Sigstore trusted root: a file beside this one, or `public`."
    )
    signers: Annotated[list[Signer], Field(min_length=1, max_length=20)] = Field(
        default=[], description="Whose signature counts: any of these."
    )
    rebuilt_by: _Text | None = Field(
        default=None, description="Who must have rebuilt the image and found it equal; vouched for by the first issuer."
    )
    ledger_keys: Annotated[list[Annotated[_Text, AfterValidator(_key)]], Field(min_length=1, max_length=20)] = Field(
        default=[], description="Verifier keys: a checkpoint signed by one must have the release."
    )
    require: Annotated[
        list[Literal["signature", "tests", "scan", "gate", "sbom", "references", "all"]], Field(min_length=1)
    ] = Field(default=[], description="What must be signed beside the provenance.")
    builders: _Patterns = Field(default=[], description="Patterns of the builder's id.")
    build_types: _Patterns = Field(default=[], description="Patterns of the provenance's build type.")
    recipes: _Patterns = Field(default=[], description="Patterns of the recipe's name.")
    sources: _Patterns = Field(default=[], description="Patterns of the recipe's `metadata.source`.")
    requesters: _Patterns = Field(default=[], description="Patterns of who asked for the build.")
    gate_policies: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]], Field(min_length=1, max_length=100)
    ] = Field(default=[], description="Digests of policies, one of which it must have passed the gate by.")
    max_age_days: Annotated[int, Field(ge=1, le=36500)] | None = Field(
        default=None, description="How long ago it may have been signed."
    )
    hermetic: bool = Field(default=False, description="No step of the build may have had a network.")
    allow_sandbox: bool = Field(default=False, description="Whether the signature of a sandbox will do.")


class VerificationPolicy(_Strict):
    """What `goldsmith verify --policy` and `POST /v1/verifications` hold an image to."""

    api_version: Literal["goldsmith/v1"]
    kind: Literal["VerificationPolicy"]
    metadata: VerificationMetadata
    spec: VerificationSpec = VerificationSpec()

    @property
    def signatories(self) -> tuple[Signatory, ...]:
        return tuple(Signatory(one.identity, one.issuer) for one in self.spec.signers)

    def expected(self) -> Expected:
        spec = self.spec
        return Expected(
            required=list(KINDS) if "all" in spec.require else list(spec.require),
            builders=spec.builders,
            build_types=spec.build_types,
            recipes=spec.recipes,
            sources=spec.sources,
            requesters=spec.requesters,
            gate_policies=spec.gate_policies,
            max_age=timedelta(days=spec.max_age_days) if spec.max_age_days is not None else None,
            hermetic=spec.hermetic,
            no_sandbox=not spec.allow_sandbox,
        )


def read_verification_policy(text: str | bytes, *, source: str = "verification policy") -> VerificationPolicy:
    """Parse YAML or JSON and validate. Raises VerificationPolicyInvalid that lists every fault, each with its place."""
    try:
        document = parse(text, source=source)
    except RecipeInvalid as error:
        told = [one.model_copy(update={"hint": None}) if "Recipe" in (one.hint or "") else one for one in error.errors]
        raise _invalid(source, told) from error
    try:
        return VerificationPolicy.model_validate(document.data)
    except ValidationError as error:
        raise _invalid(source, faults_of(error, document, VerificationPolicy)) from error


def verification_policy_from_data(data: Any, *, source: str = "policy") -> VerificationPolicy:
    """One that came as JSON inside a request. Raises VerificationPolicyInvalid, without lines: nobody wrote one."""
    try:
        return read_verification_policy(json_text(data), source=source)
    except VerificationPolicyInvalid as error:
        faults = [one.model_copy(update={"line": None, "column": None}) for one in error.errors]
        raise _invalid(source, faults) from error
    except (ValueError, RecursionError) as error:
        raise _invalid(source, [Fault(message="nested too deeply, or a number is too long")]) from error


def _invalid(source: str, faults: list[Fault]) -> VerificationPolicyInvalid:
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    shown = "; ".join(str(one) for one in faults[:3])
    return VerificationPolicyInvalid(f"{source}: {shown}{more}", errors=faults[:20])
