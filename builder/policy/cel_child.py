"""Evaluates one CEL expression, as a program of its own: what hangs, crashes or eats memory does so alone.

Its input is JSON with `expression` and `facts`, its output JSON with `value` or `error`. It imports nothing of ours.
"""

from __future__ import annotations

import json
import resource
import sys

_CPU_SECONDS = 10
_MEMORY_BYTES = 2 * 1024**3
_WORDS = 300


def main() -> None:
    """Raises nothing that stdin decides."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    asked = json.load(sys.stdin)
    sys.stdout.write(json.dumps(_answer(asked["expression"], asked["facts"])))


def _answer(expression: str, facts: object) -> dict[str, object]:
    from cel_expr_python import cel

    try:
        compiled = cel.NewEnv(variables={"facts": cel.Type.DYN}).compile(expression)
        found = compiled.eval(data={"facts": facts})
    except Exception as error:
        return {"error": str(error)[:_WORDS]}
    value = found.value()
    if isinstance(value, bool) and found.type() == cel.Type.BOOL:
        return {"value": value}
    if found.type() == cel.Type.ERROR:
        return {"error": str(value)[:_WORDS]}
    return {"error": f"it gives a value of type {found.type().name()}, not true or false"}


if __name__ == "__main__":
    main()
