"""One whole Goldsmith for all end-to-end tests: real servers, real workers, the shipped recipes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from scripts.stack.services import ROOT, Stack
from tests.end_to_end.world import Goldsmith, Released
from tests.unit.git_server import GitServer, git_server


@pytest.fixture(scope="session")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A Git server that the API may take recipes from."""
    with git_server(tmp_path_factory.mktemp("git")) as server:
        yield server


@pytest.fixture(scope="session")
def goldsmith(tmp_path_factory: pytest.TempPathFactory, docker_engine: str, git: GitServer) -> Iterator[Goldsmith]:
    stack = Stack(tmp_path_factory.mktemp("goldsmith"), any_ports=True)
    stack.overrides |= {"GIT_HOSTS": git.host, "GIT_PRIVATE": "true"}
    # Without their locks: the archive may no longer have what these name.
    recipes = tmp_path_factory.mktemp("recipes") / "recipes"
    shutil.copytree(ROOT / "recipes", recipes, ignore=shutil.ignore_patterns("*.lock.json"))
    stack.overrides["RECIPES_DIRECTORY"] = str(recipes)
    try:
        stack.up(print)
        yield Goldsmith(stack)
    finally:
        stack.down(print)


@pytest.fixture(scope="session")
def shipped(goldsmith: Goldsmith) -> Callable[[str], Released]:
    """A recipe of recipes/, released once for all tests: a second release would be what the API then names."""

    @cache
    def released(recipe: str) -> Released:
        if recipe == "debian":
            released("web")  # Its base is released first.
            found = goldsmith.api.get("/v1/builds", params={"recipe": recipe, "state": "released"}).json()
            return Released(found["builds"][0])
        return goldsmith.release(recipe)

    return released


@pytest.fixture(scope="session")
def web(shipped: Callable[[str], Released]) -> Released:
    """recipes/web.yaml; its base is built first."""
    return shipped("web")


@pytest.fixture(scope="session")
def cosign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian 13's cosign, fetched by our own planner; a Go binary, so it runs on Debian 12 too."""
    from builder.planning.apt import AptArchive
    from builder.planning.debs import DebStore
    from builder.planning.mirrors import find_mirrors
    from builder.process import run

    work = tmp_path_factory.mktemp("cosign")
    debs = DebStore(work / "debs")
    archive = AptArchive(
        work / "apt",
        mirrors=find_mirrors(None, None),
        suite="trixie",
        components=["main"],
        architecture=run(["dpkg", "--print-architecture"], timeout=10).stdout.decode().strip(),
        debs=debs,
        index_seconds=900,
    )
    archive.refresh()
    package = next(package for package in archive.resolve(["cosign"]).packages if package.name == "cosign")
    run(["dpkg-deb", "--extract", debs.verified(package), work / "root"], timeout=60)
    return work / "root/usr/bin/cosign"
