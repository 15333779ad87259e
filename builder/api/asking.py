"""What a request for a build, a lock, a rebuild or a comparison says, checked: recipe, lock, image."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from builder.api.bodies import Body, read_body
from builder.api.problems import RequestInvalid
from builder.api.sourcing import Sourced, of_a_commit, of_the_request, of_the_service
from builder.api.turns import Turns
from builder.errors import Fault, Rejected
from builder.pipeline.submission import Asked
from builder.planning.lockfile import lock_from_data
from builder.recipes.catalogue import Catalogue
from builder.recipes.git import GitPlace, GitSources
from builder.recipes.model import RepositoryName
from builder.recipes.reading import read_recipe
from builder.store.states import Priority, Purpose

_YAML = ("application/yaml", "text/yaml", "application/x-yaml")
_WANTED = 'send {"recipe": "NAME"}, a recipe, or {"repository": "https://…", "path": "…"}'


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
    """What to resolve: a recipe of the catalogue by its name, a whole recipe, or one of a repository's commit."""

    recipe: str | dict[str, Any] | None = Field(
        default=None, description="A name, or a recipe as a JSON object.", examples=["web"]
    )
    repository: str | None = Field(
        default=None,
        max_length=600,
        description="In place of `recipe`: the https URL of a Git repository at a host that the operator allows.",
        examples=["https://git.example/acme/images"],
    )
    ref: str = Field(
        default="HEAD", max_length=255, description="Of the repository: a branch, a tag, or a commit's whole id."
    )
    path: str | None = Field(
        default=None,
        max_length=512,
        description="The recipe's file in the repository; the files it names and its lock are beside it.",
        examples=["images/web.yaml"],
    )
    parameters: dict[str, str | int | bool] = Field(
        default={},
        max_length=50,
        description="Values for what the recipe leaves open, as it declares them. They are public; no secret is one.",
        examples=[{"version": "1.26"}],
    )

    @model_validator(mode="after")
    def _one_recipe(self) -> Self:
        if (self.recipe is None) == (self.repository is None):
            raise ValueError("give one of the two, recipe and repository")
        if (self.repository is None) != (self.path is None):
            raise ValueError("repository and path go together")
        if self.repository is None and "ref" in self.model_fields_set:
            raise ValueError("ref goes with repository")
        return self


class _Named(BaseModel):
    repository: Any = None


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
    dry_run: bool = Field(
        default=False, description="Build nothing: the answer is followed to a plan of what would be done."
    )


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
                "application/json": {"schema": model.model_json_schema(by_alias=True)},
                "application/yaml": {"schema": {"type": "string", "description": "A recipe, its files embedded."}},
            },
        }
    }


def documented_rebuild() -> dict[str, Any]:
    schema = RebuildRequest.model_json_schema(by_alias=True)
    return {"requestBody": {"required": False, "content": {"application/json": {"schema": schema}}}}


def documented_evaluation() -> dict[str, Any]:
    schema = EvaluationRequest.model_json_schema(by_alias=True)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def documented_verification() -> dict[str, Any]:
    schema = VerificationRequest.model_json_schema(by_alias=True)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def body_of(request: Request) -> Body:
    return await read_body(request, ("application/json", *_YAML))


def git_turns(request: Request, body: Body) -> Turns | None:
    """Of a request that names a repository: its host may be slow, and is waited for apart from all other requests."""
    if body.media_type in _YAML:
        return None
    try:
        named = _Named.model_validate_json(body.content).repository is not None
    except ValidationError:  # told when it is read whole
        return None
    turns: Turns = request.app.state.git_turns
    return turns if named else None


def asked_build(body: Body, catalogue: Catalogue, git: GitSources, requester: str) -> Asked:
    """Raises RequestInvalid, RecipeInvalid, RecipeUnknown, ParameterInvalid, GitSourceRefused, GitUnavailable,
    LockInvalid or LockMissing."""
    if body.media_type in _YAML:
        return Asked(read_recipe(body.content), "request", requester)
    wanted = _parsed(BuildRequest, body.content, hint=_WANTED)
    update = wanted.lock_use is LockUse.UPDATE
    if wanted.lock is not None and update:
        raise RequestInvalid("a lock is given, and lockUse says not to use one", hint="leave one of the two out")
    if wanted.lock is not None and not isinstance(wanted.recipe, dict):
        raise RequestInvalid("this recipe has its own lock beside it", hint="send the whole recipe with its lock")
    found = _sourced(wanted, catalogue, git, lock=not update)
    lock = lock_from_data(wanted.lock) if wanted.lock is not None else found.lock
    if wanted.lock_use is LockUse.REQUIRE and lock is None:
        raise LockMissing(
            f"{found.recipe.metadata.name} has no lock, and resolving was refused",
            hint="`goldsmith recipe lock` makes one; its place is beside the recipe",
        )
    return Asked(
        found.recipe,
        found.origin,
        requester,
        lock=lock,
        lock_from_request=lock is not None and found.origin != "catalogue",
        update=update,
        force=wanted.force,
        purpose=Purpose.PLAN if wanted.dry_run else Purpose.RELEASE,
        priority=wanted.priority,
        parameters=found.parameters,
        source=found.source,
    )


def asked_lock(body: Body, catalogue: Catalogue, git: GitSources, requester: str) -> Asked:
    """Raises as `asked_build`."""
    if body.media_type in _YAML:
        return Asked(read_recipe(body.content), "request", requester, purpose=Purpose.LOCK)
    found = _sourced(_parsed(LockRequest, body.content, hint=_WANTED), catalogue, git, lock=False)
    return Asked(
        found.recipe, found.origin, requester, purpose=Purpose.LOCK, parameters=found.parameters, source=found.source
    )


def _sourced(wanted: LockRequest, catalogue: Catalogue, git: GitSources, *, lock: bool) -> Sourced:
    if wanted.repository is not None and wanted.path is not None:
        place = GitPlace(wanted.repository, wanted.ref, wanted.path)
        return of_a_commit(git, place, wanted.parameters, lock=lock)
    if isinstance(wanted.recipe, dict):
        return of_the_request(wanted.recipe, wanted.parameters)
    assert wanted.recipe is not None, "a request without either is refused"
    return of_the_service(catalogue, wanted.recipe, wanted.parameters, lock=lock)


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
