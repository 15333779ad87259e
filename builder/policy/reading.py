"""Text into an organisation's policy: each fault by line and field, with the nearest name that is known."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from builder.errors import Fault, Rejected
from builder.policy.organisation import OrganisationPolicy
from builder.policy.policy import Policy
from builder.recipes.document import Document, Path, RecipeInvalid, parse
from builder.recipes.reading import faults_of, json_text

# What is wrong with the whole names the field itself: `overrides[0].rules.tests.minimum: 1 is looser …; way out`.
_NAMED = re.compile(r"(?P<field>(?:custom|overrides)\[[^:]+): (?P<message>[^;]+)(?:; (?P<hint>.+))?")
_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class PolicyInvalid(Rejected):
    """A policy with a typo would judge by less than its writer thinks, so it judges nothing."""

    slug = "policy-invalid"
    title = "The policy is not valid"


def read_policy(text: str | bytes, *, source: str = "policy") -> OrganisationPolicy:
    """Parse and validate. Raises PolicyInvalid that lists every fault, each with its place."""
    return read_placed(text, source=source)[0]


def read_placed(text: str | bytes, *, source: str = "policy") -> tuple[OrganisationPolicy, Document]:
    """The policy, and the document that knows the place of each part. Raises as `read_policy`."""
    try:
        document = parse(text, source=source)
    except RecipeInvalid as error:
        raise PolicyInvalid(error.detail, errors=error.errors) from error
    try:
        return OrganisationPolicy.model_validate(document.data), document
    except ValidationError as error:
        faults = [_placed(one, document) for one in faults_of(error, document, OrganisationPolicy)]
        raise _invalid(source, faults) from error


def policy_from_data(data: Any, *, source: str = "policy") -> OrganisationPolicy:
    """A policy that came as JSON inside a request, by the same limits as text. Its faults have no line: nobody wrote
    one. Raises PolicyInvalid."""
    try:
        return read_policy(json_text(data), source=source)
    except PolicyInvalid as error:
        faults = [one.model_copy(update={"line": None, "column": None}) for one in error.errors]
        raise _invalid(source, faults) from error
    except (ValueError, RecursionError) as error:
        raise _invalid(source, [Fault(message="nested too deeply, or a number is too long")]) from error


def recipe_policy_from_data(data: Any, *, field: str) -> Policy:
    """A recipe's `spec.policy` that came alone, in `field` of a request. Raises PolicyInvalid."""
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        faults = [
            one.model_copy(update={"field": f"{field}.{one.field}" if one.field else field})
            for one in faults_of(error, Document(data), Policy)
        ]
        raise _invalid("the recipe's policy", faults) from error


def path_of(field: str) -> Path:
    """`spec.custom[0].name` as the path ("spec", "custom", 0, "name")."""
    return tuple(int(index) if index else name for index, name in _PART.findall(field))


def _placed(fault: Fault, document: Document) -> Fault:
    named = _NAMED.fullmatch(fault.message)
    if named is None or fault.field != "spec":
        return fault
    field = f"{fault.field}.{named['field']}"
    line, column = document.place(path_of(field))
    return Fault(field=field, line=line, column=column, message=named["message"], hint=named["hint"])


def _invalid(source: str, faults: list[Fault]) -> PolicyInvalid:
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return PolicyInvalid(f"{source}: {'; '.join(str(one) for one in faults[:3])}{more}", errors=faults[:20])
