"""How much of all faults a run tries: a seeded few, the same each time, or with FAULTS=all every one.

FAULTS_SEED=n tries others.
"""

from __future__ import annotations

import os
import random

ALL = os.environ.get("FAULTS") == "all"
SEED = int(os.environ.get("FAULTS_SEED", "1"))


def some(of: list[str], number: int) -> list[str]:
    """So many, in their order."""
    return of if ALL else sorted(random.Random(SEED).sample(of, min(number, len(of))), key=of.index)
