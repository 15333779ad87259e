"""The one error hierarchy: every failure a user can meet, as an RFC 9457 problem.

Three families decide what happens next. *Rejected*: the request or the recipe is at fault, a retry cannot help.
*Unavailable*: something we depend on is, a retry can help. *Broken*: we are, and an operator must look.
A class names its problem once (`slug`, `title`, `status`); the API, the workers and the CLI only pass it on.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Fault(BaseModel):
    """One thing that is wrong with an input: where it is, which rule it breaks, and the way out."""

    model_config = ConfigDict(frozen=True)

    message: str
    field: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        field = f"{self.field}: " if self.field else ""
        return f"{place}{field}{self.message}" + (f" ({self.hint})" if self.hint else "")


class Problem(BaseModel):
    """A problem detail (RFC 9457, section 3). `errors`, `retryable` and `hint` are extension members."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field(examples=["/problems/recipe-invalid"])
    title: str = Field(examples=["The recipe is not valid"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["line 7, column 3: spec.pakages: unknown key (did you mean 'packages'?)"])
    instance: str | None = None
    hint: str | None = None
    retryable: bool = False
    errors: list[Fault] = Field(default_factory=list)

    @property
    def slug(self) -> str:
        return self.type.rsplit("/", 1)[-1]


class GoldsmithError(Exception):
    """The root of every error that Goldsmith raises on purpose.

    `detail` says what happened this time, in words for the person who reads it; `hint` is the way out.
    """

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong inside Goldsmith"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, hint: str | None = None, errors: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.errors = list(errors)

    def problem(self, instance: str | None = None) -> Problem:
        return Problem(
            type=f"/problems/{self.slug}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            hint=self.hint,
            retryable=self.retryable,
            errors=self.errors,
        )

    def __str__(self) -> str:
        return f"{self.detail} ({self.hint})" if self.hint else self.detail

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross process borders by pickle, which would call __init__ with `args` alone.
        return (_rebuild, (type(self), self.detail, self.__dict__))


def _rebuild(kind: type[GoldsmithError], detail: str, state: dict[str, Any]) -> GoldsmithError:
    error = kind.__new__(kind, detail)
    error.__dict__.update(state)
    return error


class Rejected(GoldsmithError):
    """The request or the recipe is at fault. Final."""

    slug = "rejected"
    title = "The request cannot be carried out"
    status = 422


class Unavailable(GoldsmithError):
    """Something Goldsmith depends on is not there or does not answer. A retry can help."""

    slug = "unavailable"
    title = "A service that is needed does not answer"
    status = 503
    retryable = True


class StorageFull(Unavailable):
    """A disk of the service has no room left. What was under way is tried again, or taken back."""

    slug = "storage-full"
    title = "There is no disk space left"
    status = 507


def storage_full(error: BaseException) -> StorageFull | None:
    """The problem that an exception tells of, if it is that a disk is full or a quota is used up."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("there is no disk space left", hint="an operator must free some: docs/operator.md")
    return None


class Broken(GoldsmithError):
    """Goldsmith or its installation is at fault. An operator must look."""

    slug = "internal-error"
    title = "Something went wrong inside Goldsmith"
    status = 500


class SettingsInvalid(Broken):
    slug = "settings-invalid"
    title = "Goldsmith's settings are not valid"


class ProgramMissing(Broken):
    slug = "program-missing"
    title = "A program that Goldsmith needs is not installed"


class ProgramFailed(Broken):
    """An external program ended with a non-zero exit code. `exit_code` and `stderr_tail` carry the evidence."""

    slug = "program-failed"
    title = "An external program failed"

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        errors: Sequence[Fault] = (),
        exit_code: int | None = None,
        stderr_tail: str = "",
    ) -> None:
        super().__init__(detail, hint=hint, errors=errors)
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail


class ProgramTimedOut(Unavailable):
    slug = "program-timed-out"
    title = "An external program did not finish in time"


class Cancelled(Rejected):
    """Somebody asked for the work to stop. Not a fault, but it ends a build like one."""

    slug = "cancelled"
    title = "The build was cancelled"
    status = 409
