"""Engines that wall containers off in other ways build the same images, bit for bit."""

from __future__ import annotations

import json
from typing import Any

from tests.end_to_end.world import Goldsmith, Released
from tests.integration.own_engine import REMAPPED, own_engine

RECIPE: dict[str, Any] = {
    "packages": ["iputils-ping", "libcap2-bin"],
    "users": [{"name": "app", "uid": 1500}],
    "files": [{"path": "/srv/theirs", "content": "x", "owner": "app", "mode": "0640"}],
    "run": [
        {
            "shell": """
                mkdir /srv/made && cd /srv/made
                cp /bin/true capable && setcap cap_net_bind_service=ep capable && ln capable same
                cp /bin/true privileged && chown 1500:50 privileged && chmod 6755 privileged
                ln -s ../theirs link && mkfifo pipe
            """
        }
    ],
    "tests": [
        {"file": "/srv/theirs", "owner": "1500:1500", "mode": "0640"},
        {"file": "/srv/made/privileged", "owner": "1500:50"},
        {"command": ["/srv/made/capable"]},
    ],
}


def test_user_namespaces_change_nothing_but_who_root_is(goldsmith: Goldsmith, web: Released) -> None:
    assert web.digest  # its base is released
    recipe = goldsmith.recipe("anywhere", **RECIPE)
    usual = goldsmith.release(recipe)
    with own_engine(*REMAPPED) as engine, goldsmith.worker("build", ENGINE_URL=engine.url):
        here = goldsmith.release(recipe)
    assert here.digest == usual.digest
    statement = json.loads(goldsmith.run("provenance", here.digest, "--statement").stdout)
    assert statement["predicate"]["buildDefinition"]["internalParameters"]["engine"].endswith(", user namespaces")
