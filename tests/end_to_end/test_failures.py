"""Whatever goes wrong ends in a failed build that a person understands; nothing is published, nothing is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.world import Goldsmith, Released

# By something that a command leaves running.
OTHER_SOURCES = "sleep 0.5; sed -i 's/^Source: .*/Source: x/' /var/lib/dpkg/status"


@pytest.fixture(autouse=True)
def _base_is_released(goldsmith: Goldsmith, web: Released) -> Iterator[None]:
    """Each of these builds starts from a released base, and each must leave the host as it was."""
    yield
    goldsmith.wait_until_clean()


def nothing_published(goldsmith: Goldsmith, name: str) -> bool:
    return goldsmith.tags(f"test/{name}") == [] and goldsmith.manifests(f"test/{name}") == set()


@contextmanager
def without(goldsmith: Goldsmith, service: str) -> Iterator[None]:
    goldsmith.stack.process(service).stop()
    try:
        yield
    finally:
        goldsmith.stack.start(service)


@contextmanager
def one_attempt(goldsmith: Goldsmith, queue: str) -> Iterator[None]:
    """A worker that does not try again what may pass."""
    with goldsmith.worker(queue, MAXIMUM_ATTEMPTS="1"):
        yield


def test_a_typo_is_refused_before_anything_is_begun(goldsmith: Goldsmith) -> None:
    recipe = goldsmith.recipe("typo", pakages=["nginx"])
    answer = goldsmith.api.post("/v1/builds", json={"recipe": recipe})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "/problems/recipe-invalid"
    assert "did you mean 'packages'?" in problem["detail"]
    assert problem["errors"][0]["field"] == "spec.pakages"
    assert problem["errors"][0]["line"]


def test_a_typo_in_yaml_is_told_by_line_and_column(goldsmith: Goldsmith) -> None:
    text = "apiVersion: goldsmith/v1\nkind: Image\nmetadata: {name: x}\nspec:\n  bas: {recipe: debian}\n"
    answer = goldsmith.api.post("/v1/builds", content=text, headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 422
    assert "line 5, column 3: spec.bas: unknown key (did you mean 'base'?)" in answer.json()["detail"]


def test_an_unknown_package(goldsmith: Goldsmith) -> None:
    problem = goldsmith.fail(goldsmith.recipe("unknown-package", packages=["ngnix-light"]))
    assert problem["type"] == "/problems/package-unknown"
    assert "spec.packages[0]: there is no package 'ngnix-light' in trixie" in problem["detail"]
    assert "did you mean 'nginx-light'" in problem["detail"]
    assert nothing_published(goldsmith, "unknown-package")


def test_a_failing_command_of_the_recipe(goldsmith: Goldsmith) -> None:
    problem = goldsmith.fail(goldsmith.recipe("run-fails", run=[{"shell": "echo what went wrong >&2; exit 3"}]))
    assert problem["type"] == "/problems/run-failed"
    assert "spec.run[0]" in problem["detail"]
    assert "exit code 3: what went wrong" in problem["detail"]
    assert nothing_published(goldsmith, "run-fails")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"run": [["rm", "/var/lib/dpkg/status"]]}, "packages-vanished"),
        ({"run": [{"shell": f"({OTHER_SOURCES}) >&- 2>&- &"}, ["sleep", "1"]]}, "packages-vanished"),
        ({"run": [{"shell": "echo 1.0 >/etc/debian_version"}]}, "release-changed"),
        ({"files": [{"path": "/etc/alpine-release", "content": "3.20\n"}]}, "release-changed"),
    ],
    ids=["without a database", "with other sources", "of another release", "of another distribution"],
)
def test_a_command_that_hides_packages_from_scanners(goldsmith: Goldsmith, changed: dict[str, Any], said: str) -> None:
    problem = goldsmith.fail(goldsmith.recipe("hiding", **changed))
    assert problem["type"] == f"/problems/{said}"
    assert nothing_published(goldsmith, "hiding")


def test_a_regular_expression_that_never_ends_ends(goldsmith: Goldsmith) -> None:
    tests = [{"command": ["sh", "-c", f"echo {'a' * 60}"], "stdout": {"matches": "^(a+)+b$"}}]
    problem = goldsmith.fail(goldsmith.recipe("slow-expression", tests=tests))
    assert problem["type"] == "/problems/test-failed"
    assert "was not decided within" in problem["detail"]


def test_a_failing_test_stops_the_build_and_shows_the_output(goldsmith: Goldsmith) -> None:
    tests = [{"command": ["sh", "-c", "echo the version is 2"], "stdout": {"contains": "version is 3"}}]
    build_id = goldsmith.submit(goldsmith.recipe("test-fails", tests=tests))
    build = goldsmith.finished(build_id)
    assert build["state"] == "failed"
    assert build["problem"]["type"] == "/problems/test-failed"
    assert "the version is 2" in build["problem"]["detail"]
    assert build["problem"]["errors"][0]["field"] == "spec.tests[0]"
    assert "FAILED: command sh -c" in goldsmith.log(build_id)
    assert nothing_published(goldsmith, "test-fails")


def test_a_server_that_does_not_start(goldsmith: Goldsmith) -> None:
    tests = [{"port": 8080, "withinSeconds": 20}]
    entrypoint = ["/bin/sh", "-c", "echo no configuration >&2; exit 7"]
    problem = goldsmith.fail(goldsmith.recipe("no-server", entrypoint=entrypoint, tests=tests))
    assert problem["type"] == "/problems/test-failed"
    assert "exit code 7: no configuration" in problem["detail"]
    assert nothing_published(goldsmith, "no-server")


def test_a_severity_above_the_gate_says_exactly_what_to_change(goldsmith: Goldsmith) -> None:
    build_id = goldsmith.submit(goldsmith.recipe("gated", policy={"maximumSeverity": "none"}))
    build = goldsmith.finished(build_id)
    assert build["state"] == "failed"
    problem = build["problem"]
    assert problem["type"] == "/problems/gate-failed"
    assert problem["errors"]
    assert all(error["field"] == "spec.policy.maximumSeverity" and error["hint"] for error in problem["errors"])
    assert build["result"]["gate"] == "failed"
    assert nothing_published(goldsmith, "gated")


def test_a_dead_registry(goldsmith: Goldsmith) -> None:
    with one_attempt(goldsmith, "build"), without(goldsmith, "registry"):
        problem = goldsmith.fail(goldsmith.recipe("dead-registry"))
    assert problem["retryable"] is True
    assert goldsmith.stack.registry in problem["detail"]
    assert nothing_published(goldsmith, "dead-registry")


def test_a_registry_that_dies_before_the_image_is_staged(goldsmith: Goldsmith) -> None:
    run = [{"shell": "sleep 4"}]
    with one_attempt(goldsmith, "build"):
        build_id = goldsmith.submit(goldsmith.recipe("dying-registry", run=run))
        goldsmith.until(build_id, lambda build: any(step["name"] == "run" for step in build["steps"]))
        with without(goldsmith, "registry"):
            problem = goldsmith.finished(build_id)["problem"]
    assert problem["type"] == "/problems/registry-unavailable"
    assert nothing_published(goldsmith, "dying-registry")


def test_a_registry_that_is_away_for_a_while_costs_an_attempt_and_says_so(goldsmith: Goldsmith) -> None:
    build_id = goldsmith.submit(goldsmith.recipe("registry-returns", run=[{"shell": "sleep 3"}]))
    goldsmith.until(build_id, lambda build: any(step["name"] == "run" for step in build["steps"]))
    with without(goldsmith, "registry"):
        goldsmith.until(build_id, lambda build: build["retries"])
    build = goldsmith.finished(build_id)
    assert (build["state"], build["attempt"]) == ("released", 2)
    (why,) = build["retries"]
    assert (why["attempt"], why["state"], why["type"]) == (1, "building", "/problems/registry-unavailable")
    assert "attempt 1 ended while building" in goldsmith.run("show", build_id).stdout


def test_a_dead_scanner(goldsmith: Goldsmith) -> None:
    stack = goldsmith.stack
    stack.process("worker-scan").stop()
    stack.overrides["TRIVY"] = "/nonexistent/trivy"
    stack.start("worker-scan")
    try:
        problem = goldsmith.fail(goldsmith.recipe("dead-scanner"))
    finally:
        stack.process("worker-scan").stop()
        del stack.overrides["TRIVY"]
        stack.start("worker-scan")
    assert problem["type"] == "/problems/program-missing"
    assert "GOLDSMITH_TRIVY" in problem["hint"]
    assert nothing_published(goldsmith, "dead-scanner")


def test_no_vulnerability_database_fails_closed(goldsmith: Goldsmith, tmp_path: Path) -> None:
    stack = goldsmith.stack
    stack.process("worker-scan").stop()
    cache = stack.state / "state/trivy"
    cache.rename(tmp_path / "trivy")
    stack.overrides |= {"TRIVY_DATABASE": f"{stack.registry}/goldsmith/no-such-database:2", "MAXIMUM_ATTEMPTS": "1"}
    stack.start("worker-scan")
    try:
        problem = goldsmith.fail(goldsmith.recipe("no-database"))
    finally:
        stack.process("worker-scan").stop()
        del stack.overrides["TRIVY_DATABASE"], stack.overrides["MAXIMUM_ATTEMPTS"]
        stack.start("worker-scan")
    assert problem["type"] == "/problems/database-missing"
    assert "GOLDSMITH_TRIVY_DATABASE" in problem["hint"]
    assert nothing_published(goldsmith, "no-database")


def test_a_dead_signer(goldsmith: Goldsmith) -> None:
    with one_attempt(goldsmith, "release"), without(goldsmith, "sigstore"):
        problem = goldsmith.fail(goldsmith.recipe("dead-signer"))
    assert problem["retryable"] is True
    assert problem["type"] in {"/problems/signer-unavailable", "/problems/identity-unavailable"}
    assert nothing_published(goldsmith, "dead-signer")


def test_after_a_failure_the_same_recipe_goes_through(goldsmith: Goldsmith) -> None:
    recipe = goldsmith.recipe("second-try")
    with one_attempt(goldsmith, "release"), without(goldsmith, "sigstore"):
        goldsmith.fail(recipe)
    assert goldsmith.release(recipe).build["state"] == "released"


@pytest.mark.parametrize("state", ["building", "queued"])
def test_a_cancelled_build_ends_within_seconds(goldsmith: Goldsmith, state: str) -> None:
    build_id = goldsmith.submit(goldsmith.recipe(f"cancelled-{state}", run=[{"shell": "sleep 120"}]))
    if state == "building":
        goldsmith.until(build_id, lambda build: any(step["name"] == "run" for step in build["steps"]))
    asked = time.monotonic()
    answer = goldsmith.api.post(f"/v1/builds/{build_id}/cancel")
    assert answer.status_code == 202
    build = goldsmith.finished(build_id, patience=15)
    assert build["state"] == "cancelled"
    assert time.monotonic() - asked < 12
    assert nothing_published(goldsmith, f"cancelled-{state}")
    again = goldsmith.api.post(f"/v1/builds/{build_id}/cancel")
    assert again.status_code == 409
    assert again.json()["type"] == "/problems/build-already-final"


def test_control_characters_in_a_log_reach_nobodys_terminal(goldsmith: Goldsmith) -> None:
    shell = r"printf 'plain \033[31mred\033[0m \033]0;title\007 \007bell\n'; false"
    build_id = goldsmith.submit(goldsmith.recipe("escapes", run=[{"shell": shell}]))
    goldsmith.finished(build_id)
    log = goldsmith.log(build_id)
    assert "plain red" in log
    assert "\x1b" not in log
    assert "\x07" not in log
