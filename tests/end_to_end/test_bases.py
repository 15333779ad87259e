"""What an image may start from: packages, another recipe (both in the main job), or any image by digest."""

from __future__ import annotations

import json

from tests.end_to_end.test_witnesses import run
from tests.end_to_end.world import Goldsmith, Released


def foreign_image(goldsmith: Goldsmith, web: Released) -> str:
    """An image that Docker itself made and pushed, in Docker's own manifest form, by digest."""
    base = goldsmith.build(web.build["waitsFor"])["result"]["reference"]
    goldsmith.engine.images.pull(*base.split("@"))
    name = f"{goldsmith.stack.registry}/test/foreign"
    script = "echo theirs > /etc/theirs; echo gone > /etc/gone; chmod u+s /usr/bin/sort"
    container = goldsmith.engine.containers.run(base, ["sh", "-c", script], detach=True)
    try:
        assert container.wait()["StatusCode"] == 0
        made = container.commit(name, "1")
    finally:
        container.remove()
    goldsmith.engine.images.push(name, "1")
    made.reload()
    digest = next(digest for digest in made.attrs["RepoDigests"] if digest.startswith(name))
    goldsmith.engine.images.remove(f"{name}:1", force=True)
    return str(digest)


def test_any_image_by_digest_can_be_a_base(goldsmith: Goldsmith, web: Released) -> None:
    base = foreign_image(goldsmith, web)
    tests = [
        {"command": ["cat", "/etc/theirs"], "stdout": {"contains": "theirs"}},
        {"command": ["cat", "/etc/ours"], "stdout": {"contains": "ours"}},
        {"file": "/etc/gone", "exists": False},
        {"file": "/usr/bin/sort", "mode": "0755"},
    ]
    recipe = goldsmith.recipe(
        "on-foreign",
        base={"image": base},
        packages=["tini"],
        files=[{"path": "/etc/ours", "content": "ours\n"}],
        run=[["rm", "/etc/gone"]],
        tests=tests,
    )
    released = goldsmith.release(recipe)

    def inspected(reference: str) -> list[str]:
        layers: list[str] = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{reference}").stdout)[
            "Layers"
        ]
        return layers

    assert inspected(released.reference)[:-1] == inspected(base)
    assert released.build["result"]["tests"] == 4
    assert goldsmith.release(recipe).digest == released.digest
    statement = json.loads(goldsmith.run("provenance", released.digest, "--statement").stdout)
    dependencies = {one["name"]: one for one in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert base.endswith(dependencies["base"]["digest"]["sha256"])
    rebuilt = goldsmith.rebuild(released.digest)
    assert rebuilt["state"] == "reproduced", rebuilt["problem"]
    assert rebuilt["rebuild"]["matched"]["manifest"] is True


def test_a_base_that_is_not_there_is_told(goldsmith: Goldsmith) -> None:
    missing = f"{goldsmith.stack.registry}/test/missing@sha256:{'0' * 64}"
    problem = goldsmith.fail(goldsmith.recipe("no-base", base={"image": missing}))
    assert missing in problem["detail"]


def test_nothing_of_the_host_or_the_hour_gets_into_an_image(goldsmith: Goldsmith, web: Released) -> None:
    recipe = goldsmith.recipe("nowhere", run=[{"shell": "hostname > /etc/built-on; touch /etc/now"}])
    assert goldsmith.release(recipe).digest == goldsmith.release(recipe).digest


def test_passwords_are_taken_away_after_the_recipes_commands(goldsmith: Goldsmith, web: Released) -> None:
    hashed = "root:$6$salt$hash"
    run = [{"shell": f"sed -i 's|^root:[^:]*|{hashed}|' /etc/passwd; echo '{hashed}:1::::::' > /etc/shadow"}]
    tests = [
        {"command": ["grep", "-c", "salt", "/etc/passwd", "/etc/shadow"], "exitCode": 1},
        {"command": ["grep", "^root:", "/etc/shadow"], "stdout": {"matches": r"^root:[*!]"}},
    ]
    goldsmith.release(goldsmith.recipe("locked", run=run, tests=tests))
