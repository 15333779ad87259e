"""What can go wrong between a client and the API."""

from __future__ import annotations

from builder.errors import Broken, GoldsmithError, Problem, Rejected, Unavailable


class UrlInvalid(Rejected):
    slug = "api-url-invalid"
    title = "The address of the API is not valid"


class KeyInvalid(Rejected):
    slug = "api-key-invalid"
    title = "The API key cannot be one"


class ApiUnreachable(Unavailable):
    slug = "api-unreachable"
    title = "The Goldsmith API does not answer"


class AnswerUnexpected(Broken):
    slug = "api-answer-unexpected"
    title = "The API gave an answer that is not Goldsmith's"
    status = 502


class ApiProblem(GoldsmithError):
    """A problem that the API told; `told` is it, whole."""

    slug = "api-problem"
    title = "The API could not carry out the request"

    def __init__(self, told: Problem, *, hint: str | None = None) -> None:
        super().__init__(told.detail, hint=hint or told.hint, errors=told.errors)
        self.told = told

    def problem(self, instance: str | None = None) -> Problem:
        return self.told.model_copy(update={"hint": self.hint, "instance": instance or self.told.instance})

    def __reduce__(self) -> tuple[object, ...]:
        return (ApiProblem, (self.told,), {"hint": self.hint})
