"""The JSON schema of a recipe, for editors. `python -m builder.recipes.schema` prints it."""

from __future__ import annotations

import json
import sys
from typing import Any

from builder.recipes.parameters import WrittenRecipe


def recipe_schema() -> dict[str, Any]:
    """JSON Schema 2020-12."""
    schema = WrittenRecipe.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Goldsmith recipe"}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(recipe_schema(), indent=2) + "\n")
