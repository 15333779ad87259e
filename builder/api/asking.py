"""What a request for a build, a lock, a rebuild or a comparison says, checked: recipe, lock, image."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from builder.api.bodies import Body, read_body
from builder.api.problems import RequestInvalid
from builder.errors import Fault, Rejected
from builder.pipeline.submission import Asked
from builder.planning.lockfile import lock_from_data, read_lock_beside
from builder.recipes.catalogue import Catalogue
from builder.recipes.model import RepositoryName
from builder.recipes.reading import read_recipe, recipe_from_data
from builder.store.states import Priority, Purpose

_YAML = ("application/yaml", "text/yaml", "application/x-yaml")
_WANTED = 'send {"recipe": "NAME"} or a recipe'


class LockMissing(Rejected):
    slug = "lock-missing"
    title = "There is no lock to build with"
    status = 409


class LockUse(StrEnum):
    """What a build does with a lock: use the one there is, insist on one, or resolve anew beside it."""

    PREFER = "prefer"
    REQUIRE = "require"
    UPDATE = "update"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class LockRequest(_Body):
    """What to resolve: a recipe of the catalogue by its name, or a whole recipe."""

    recipe: str | dict[str, Any] = Field(description="A name, or a recipe as a JSON object.", examples=["web"])


class BuildRequest(LockRequest):
    """What to build, and with which lock."""

    lock: dict[str, Any] | None = Field(
        default=None, description="The lock to use exactly. A recipe of the catalogue has its own, if any."
    )
    lock_use: LockUse = Field(
        default=LockUse.PREFER,
        description="`prefer`: use the lock if there is one. `require`: refuse to resolve. `update`: resolve anew.",
    )
    priority: Priority = Field(
        default=Priority.NORMAL,
        description="Builds of a higher one go first. `high` is for administrators, and for whom the operator names.",
    )
    force: bool = Field(default=False, description="Build although the same inputs have been released before.")


class RebuildRequest(_Body):
    """How to rebuild an image."""

    offline: bool = Field(default=False, description="Take every package from the registry; ask no archive.")
    repository: RepositoryName | None = Field(
        default=None,
        description="Where in the registry the image is, if another installation released it: its provenance must be "
        "signed by whom this one believes.",
        examples=["golden/web"],
    )
    registry: str | None = Field(
        default=None,
        max_length=255,
        description="The registry that is meant; a service of another one refuses the request.",
        examples=["registry.example:5000"],
    )


class ImageSubject(_Body):
    image: str = Field(
        max_length=600,
        description="An image in this service's registry: HOST/REPOSITORY@sha256:… or :TAG.",
        examples=["registry.example:5000/golden/web:latest"],
    )


class ComparisonRequest(_Body):
    """Which image to compare with which golden one."""

    golden: str = Field(pattern="^sha256:[0-9a-f]{64}$", description="The golden image, by its manifest's digest.")
    subject: ImageSubject


class EvaluationRequest(_Body):
    """What to judge, by build or by image, and what to judge it by."""

    build: str | None = Field(
        default=None, pattern="^[0-9a-z]{26}$", description="A build whose image was scanned, released or not."
    )
    image: str | None = Field(
        default=None, pattern="^sha256:[0-9a-f]{64}$", description="A released image, by its manifest's digest."
    )
    policy: str | dict[str, Any] | None = Field(
        default=None, description="A policy as YAML text or as an object. Without one the policy in force judges."
    )
    recipe_policy: dict[str, Any] | None = Field(
        default=None, description="A recipe's `spec.policy`, in place of the one that the image was built with."
    )

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.build is None) == (self.image is None):
            raise ValueError("give one of the two, build and image")
        return self


class VerificationRequest(_Body):
    """Which image to verify, and what to expect of it."""

    digest: str = Field(pattern="^sha256:[0-9a-f]{64}$", description="A released image, by its manifest's digest.")
    policy: dict[str, Any] | None = Field(
        default=None,
        description="A `VerificationPolicy`, without `trustedRoot`; without `signers` the service must have signed.",
    )


_Model = TypeVar("_Model", bound=BaseModel)
# Pydantic's words for what a recipe or policy may be.
_OF_UNIONS = (("str",), ("dict[str,any]",))


def documented_body(model: type[BaseModel]) -> dict[str, Any]:
    """The request body in OpenAPI: JSON of a model, or a recipe as YAML."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": model.model_json_schema(by_alias=True), "example": {"recipe": "web"}},
                "application/yaml": {"schema": {"type": "string", "description": "A recipe, its files embedded."}},
            },
        }
    }


def documented_rebuild() -> dict[str, Any]:
    schema = RebuildRequest.model_json_schema(by_alias=True)
    return {"requestBody": {"required": False, "content": {"application/json": {"schema": schema}}}}


def documented_evaluation() -> dict[str, Any]:
    schema = EvaluationRequest.model_json_schema(by_alias=True)
    example = {"image": "sha256:" + "5c" * 32, "policy": "apiVersion: goldsmith/v1\nkind: Policy\n…"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def documented_verification() -> dict[str, Any]:
    schema = VerificationRequest.model_json_schema(by_alias=True)
    policy = {
        "apiVersion": "goldsmith/v1", "kind": "VerificationPolicy", "metadata": {"name": "production"},
        "spec": {"require": ["all"], "hermetic": True, "maxAgeDays": 90},
    }  # fmt: skip
    example = {"digest": "sha256:" + "5c" * 32, "policy": policy}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


async def body_of(request: Request) -> Body:
    return await read_body(request, ("application/json", *_YAML))


def asked_build(body: Body, catalogue: Catalogue, requester: str) -> Asked:
    """Raises RequestInvalid, RecipeInvalid, RecipeUnknown, LockInvalid or LockMissing."""
    if body.media_type in _YAML:
        return Asked(read_recipe(body.content), "request", requester)
    wanted = _parsed(BuildRequest, body.content, hint=_WANTED)
    if wanted.lock is not None and wanted.lock_use is LockUse.UPDATE:
        raise RequestInvalid("a lock is given, and lockUse says not to use one", hint="leave one of the two out")
    if isinstance(wanted.recipe, str):
        if wanted.lock is not None:
            raise RequestInvalid("a recipe by its name has its own lock", hint="send the whole recipe with its lock")
        listed = catalogue.get(wanted.recipe)
        recipe, origin = listed.recipe, "catalogue"
        lock = read_lock_beside(listed.path) if wanted.lock_use is not LockUse.UPDATE else None
    else:
        recipe, origin = recipe_from_data(wanted.recipe), "request"
        lock = lock_from_data(wanted.lock) if wanted.lock is not None else None
    if wanted.lock_use is LockUse.REQUIRE and lock is None:
        raise LockMissing(
            f"{recipe.metadata.name} has no lock, and resolving was refused",
            hint="`goldsmith recipe lock` makes one; its place is beside the recipe",
        )
    update = wanted.lock_use is LockUse.UPDATE
    return Asked(
        recipe,
        origin,
        requester,
        lock=lock,
        lock_from_request=wanted.lock is not None,
        update=update,
        force=wanted.force,
        priority=wanted.priority,
    )


def asked_lock(body: Body, catalogue: Catalogue, requester: str) -> Asked:
    """Raises as `asked_build`."""
    if body.media_type in _YAML:
        return Asked(read_recipe(body.content), "request", requester, purpose=Purpose.LOCK)
    wanted = _parsed(LockRequest, body.content, hint=_WANTED).recipe
    if isinstance(wanted, str):
        return Asked(catalogue.get(wanted).recipe, "catalogue", requester, purpose=Purpose.LOCK)
    return Asked(recipe_from_data(wanted), "request", requester, purpose=Purpose.LOCK)


def asked_rebuild(body: Body) -> RebuildRequest:
    """Nothing said is a plain rebuild. Raises RequestInvalid."""
    return _parsed(RebuildRequest, body.content) if body.content else RebuildRequest()


def asked_verification(body: Body) -> VerificationRequest:
    """Raises RequestInvalid."""
    return _parsed(VerificationRequest, body.content)


def asked_evaluation(body: Body) -> EvaluationRequest:
    """Raises RequestInvalid."""
    return _parsed(EvaluationRequest, body.content)


def asked_comparison(body: Body) -> ComparisonRequest:
    """Raises RequestInvalid."""
    return _parsed(ComparisonRequest, body.content)


def _parsed(model: type[_Model], content: bytes, *, hint: str | None = None) -> _Model:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        faults = [
            Fault(field=".".join(str(part) for part in entry["loc"]) or None, message=entry["msg"])
            for entry in error.errors(include_input=False, include_url=False)
            if entry["loc"][-1:] not in _OF_UNIONS
        ]
        faults += [
            Fault(field=field, message="must be a name, or the whole as an object")
            for field in dict.fromkeys(str(e["loc"][0]) for e in error.errors() if e["loc"][-1:] in _OF_UNIONS)
        ]
        raise RequestInvalid("; ".join(str(fault) for fault in faults[:3]), errors=faults, hint=hint) from error
