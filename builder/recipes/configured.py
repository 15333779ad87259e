"""YAML files that settings name: read as strictly as recipes are, their faults told by variable, file and line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from builder.errors import SettingsInvalid
from builder.recipes.document import RecipeInvalid, parse
from builder.recipes.reading import faults_of

_Model = TypeVar("_Model", bound=BaseModel)


class Strict(BaseModel):
    """Unknown names are refused, so that a typo cannot pass for a setting."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


def read_configured(path: Path, model: type[_Model], *, variable: str, hint: str) -> _Model:
    """The file that `variable` names. Raises SettingsInvalid that names the line at fault."""
    try:
        document = parse(path.read_bytes(), source=str(path))
        return model.model_validate(document.data)
    except OSError as error:
        raise SettingsInvalid(f"{variable}: {path} cannot be read: {error.strerror}") from error
    except RecipeInvalid as error:
        raise SettingsInvalid(f"{variable}: {error.detail}") from error
    except ValidationError as error:
        told = "; ".join(str(fault) for fault in faults_of(error, document, model)[:3])
        raise SettingsInvalid(f"{variable}: {path}: {told}", hint=hint) from error
