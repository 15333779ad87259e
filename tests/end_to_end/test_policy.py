"""A policy from its file to the release: what meets it is released, what does not is refused by each rule's name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.world import Goldsmith, Released

POLICY = """\
apiVersion: goldsmith/v1
kind: Policy
metadata: {name: acme, version: '2026-11'}
spec:
  rules:
    vulnerabilities: {maximumSeverity: critical}
    updates: {securityOnly: false}
    reproducible: {}
    healthcheck: {}
    tests: {}
    hermetic: {}
    imageSize: {maximumUnpackedBytes: 900000000}
    baseAge: {maximumDays: 3650}
  custom:
    - name: owned
      title: Somebody answers for the image
      expression: facts.image.labels.exists(l, l == 'org.example.team')
      remedy: name the team in spec.labels, as org.example.team
  overrides:
    - recipes: [demanded-refused]
      rules:
        imageSize: {maximumUnpackedBytes: 1000000}
        baseAge: {maximumDays: 0}
"""
DEMANDED = ("updates", "reproducible", "healthcheck", "tests", "hermetic", "imageSize", "baseAge", "custom.owned")
KEPT: dict[str, Any] = {
    "healthcheck": {"command": ["/bin/true"]},
    "labels": {"org.example.team": "gold"},
    "tests": [{"command": ["/bin/true"]}],
}
BROKEN: dict[str, Any] = {"run": [{"shell": "head -c 16 /dev/urandom >/opt/noise", "network": True}]}
# Nothing that the recipe adds is old, so nothing can be pending: tests/integration/test_pipeline_facts.py has that.
REFUSED = [name for name in DEMANDED if name != "updates"]


@contextmanager
def judging_by(goldsmith: Goldsmith, policy: Path) -> Iterator[None]:
    """The workers that a policy concerns, with it. They see each other's settings, so they change together."""
    stack, names = goldsmith.stack, ("worker-build", "worker-scan")
    for name in names:
        stack.process(name).stop()
    stack.overrides["POLICY"] = str(policy)
    try:
        stack.start(*names)
        yield
    finally:
        for name in names:
            stack.process(name).stop()
        del stack.overrides["POLICY"]
        stack.start(*names)


@pytest.fixture(scope="module")
def ended(goldsmith: Goldsmith, web: Released) -> Iterator[dict[str, dict[str, Any]]]:
    """One build that keeps to the policy and one that breaks all of it, as they ended, by recipe."""
    policy = goldsmith.stack.state / "acme.yaml"
    policy.write_text(POLICY)
    builds = {
        name: goldsmith.recipe(name, policy={"maximumSeverity": "critical"}, **spec)
        for name, spec in (("demanded", KEPT), ("demanded-refused", BROKEN))
    }
    with judging_by(goldsmith, policy):
        submitted = {name: goldsmith.submit(recipe) for name, recipe in builds.items()}
        yield {name: goldsmith.finished(build_id) for name, build_id in submitted.items()}


def verdict(goldsmith: Goldsmith, build: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = goldsmith.api.get(f"/v1/builds/{build['id']}/verdict").raise_for_status().json()
    return found


def test_what_meets_every_demand_is_released(goldsmith: Goldsmith, ended: dict[str, dict[str, Any]]) -> None:
    build = ended["demanded"]
    assert build["state"] == "released", f"{build['problem']}\n{goldsmith.log(build['id'])}"
    steps = {step["name"]: step["summary"] for step in build["steps"]}
    assert steps["updates"].startswith("0 pending")
    assert steps["reproduce"].startswith("a second assembly: ")
    assert "test" in steps
    record = goldsmith.api.get(f"/v1/images/{build['result']['digest']}/record").json()
    judged = record["scan"]["verdict"]
    assert (judged["policy"]["name"], judged["policy"]["version"]) == ("acme", "2026-11")
    assert {rule["rule"] for rule in judged["rules"] if rule["passed"]} >= set(DEMANDED)
    assert judged["facts_digest"].startswith("sha256:")
    log = goldsmith.log(build["id"])
    assert all(f"passed: {name}: " in log for name in DEMANDED)
    config = goldsmith.engine.images.pull(build["result"]["reference"]).attrs["Config"]
    assert config["Healthcheck"]["Test"] == ["CMD", "/bin/true"]


def test_what_breaks_them_is_refused_by_each_rules_name_and_nothing_is_published(
    goldsmith: Goldsmith, ended: dict[str, dict[str, Any]]
) -> None:
    build = ended["demanded-refused"]
    assert build["state"] == "failed", goldsmith.log(build["id"])
    problem = build["problem"]
    assert problem["type"] == "/problems/gate-failed"
    log = goldsmith.log(build["id"])
    assert [name for name in DEMANDED if f"FAILED: {name}: " in log] == REFUSED
    hints = json.dumps(problem["errors"])
    for told in ("reads the clock", "spec.healthcheck", "spec.tests", "take `network` off", "take packages out",
                 "build the base anew", "name the team in spec.labels"):  # fmt: skip
        assert told in hints
    assert not verdict(goldsmith, build)["passed"]
    for form in ("markdown", "html"):
        page = goldsmith.api.get(f"/v1/builds/{build['id']}/verdict", params={"format": form}).text
        assert "Somebody answers for the image" in page
        assert "name the team in spec.labels" in page
    assert goldsmith.tags("test/demanded-refused") == []
    assert goldsmith.manifests("test/demanded-refused") == set()


def test_neither_leaves_anything_behind(goldsmith: Goldsmith, ended: dict[str, dict[str, Any]]) -> None:
    goldsmith.wait_until_clean()
