"""A step that asks for a network has one, the next has none, and everybody is told that the build is not hermetic."""

from __future__ import annotations

import json
from typing import Any

from tests.end_to_end.world import Goldsmith

SEEN = "ls /sys/class/net | xargs >>/srv/seen"
STEPS: list[Any] = [{"shell": SEEN}, {"shell": SEEN, "network": True}, ["sh", "-c", SEEN]]
TESTS = [{"command": ["xargs", "-a", "/srv/seen"], "stdout": {"matches": "^lo eth0 lo lo$"}}]


def test_a_build_with_a_network_step_is_released_as_what_it_is(goldsmith: Goldsmith) -> None:
    released = goldsmith.release(goldsmith.recipe("networked", run=STEPS, tests=TESTS))
    assert released.build["result"]["hermetic"] is False
    assert "$ shell script (with a network)" in goldsmith.log(released.build["id"])
    statement = json.loads(goldsmith.run("provenance", released.digest, "--statement").stdout)
    assert statement["predicate"]["buildDefinition"]["internalParameters"]["hermetic"] is False
    goldsmith.wait_until_clean()
