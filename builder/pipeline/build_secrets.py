"""Where a build's secrets come from: files of the operator's, `RECIPE/NAME` below one directory of the build worker.

A recipe's name in a request is whatever the caller writes. So only recipes of the service itself are given any: what
such a recipe does with them its author decides, who is the operator.
"""

from __future__ import annotations

import stat
from pathlib import Path

from builder.engine.secrets import LONGEST, SHORTEST, BuildSecrets
from builder.errors import Fault, Rejected, SettingsInvalid
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.private import refuse_open
from builder.recipes.model import Recipe

_HINT = "an operator puts it into a file RECIPE/NAME, mode 0600, below GOLDSMITH_BUILD_SECRETS_DIRECTORY"
# Others are a requester's word: sent with the request, or from a repository.
_OTHERS = ("request", "git")


class SecretsNotAllowed(Rejected):
    slug = "secrets-not-allowed"
    title = "Only recipes of the service are given secrets"


class SecretUnavailable(Rejected):
    slug = "secret-unavailable"
    title = "A secret of the recipe is not there"


def refuse_secrets(recipe: Recipe, origin: str) -> None:
    """Raises SecretsNotAllowed with a fault for each step that asks for secrets, unless the recipe is the service's."""
    if origin not in _OTHERS:
        return
    faults = [
        Fault(field=f"spec.run[{index}].secrets", message="a recipe that a request brings is given none")
        for index in recipe.spec.secret_steps
    ]
    if faults:
        raise SecretsNotAllowed(
            f"recipe {recipe.metadata.name}: " + "; ".join(str(fault) for fault in faults[:3]),
            errors=faults,
            hint="ask the operator to add the recipe to the service's own",
        )


def secrets_of(services: Services, task: Task) -> BuildSecrets:
    """Raises SecretsNotAllowed, SecretUnavailable, or SettingsInvalid for a file that others may read."""
    recipe = task.recipe
    refuse_secrets(recipe, task.build.origin)
    directory = services.settings.build_secrets_directory
    return BuildSecrets({name: _value(directory, recipe.metadata.name, name) for name in recipe.spec.secrets})


def _value(directory: Path | None, recipe: str, name: str) -> bytes:
    missing = f"spec.run: there is no secret {name} for the recipe {recipe}"
    if directory is None:
        raise SecretUnavailable(missing, hint=_HINT)
    path = directory / recipe / name
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise SecretUnavailable(f"{missing}: it is no plain file", hint=_HINT)
        refuse_open(path, "GOLDSMITH_BUILD_SECRETS_DIRECTORY")
        value = path.read_bytes()
    except OSError as error:
        raise SecretUnavailable(f"{missing}: {error.strerror}", hint=_HINT) from error
    if not SHORTEST <= len(value.strip()) <= LONGEST:
        raise SettingsInvalid(
            f"GOLDSMITH_BUILD_SECRETS_DIRECTORY: {path} has {len(value.strip())} bytes; "
            f"{SHORTEST} to {LONGEST} are possible",
            hint="a shorter value could not be told from other text",
        )
    return value
