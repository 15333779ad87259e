"""Goldsmith's own way: from a request to a released image, by step."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx

from builder.engine.docker import CACHE_REPOSITORY
from builder.recipes.catalogue import Catalogue
from scripts.stack.services import ROOT, Stack

# The steps that make the image; what follows tests, scans, signs and publishes it.
_MAKING = {"resolve", "base", "packages", "users", "files", "run", "harden", "canonicalise"}


@dataclass(frozen=True)
class Release:
    """`seconds` from the request to the release; `steps` are (recipe, step, seconds), those of a base first."""

    seconds: float
    steps: tuple[tuple[str, str, float], ...]

    @property
    def image_seconds(self) -> float:
        return sum(seconds for _, name, seconds in self.steps if name in _MAKING)

    def print_steps(self, title: str) -> None:
        print(f"\n{title}: {self.seconds:.1f} s")
        for recipe, name, spent in self.steps:
            print(f"  {recipe:<8} {name:<13} {spent:6.2f} s")
        print(f"  {'between steps':<22} {self.seconds - sum(spent for _, _, spent in self.steps):6.2f} s")


def recipes_without_locks(directory: Path) -> Path:
    """A copy of the shipped recipes that is resolved at each build, as peers do, whatever the archive has by now."""
    return Path(shutil.copytree(ROOT / "recipes", directory, ignore=shutil.ignore_patterns("*.lock.json")))


def shipped(name: str) -> dict[str, Any]:
    """A shipped recipe, to be changed and asked for as a recipe of its own."""
    recipe = Catalogue(ROOT / "recipes").get(name).recipe
    return recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def forget_bootstraps(stack: Stack) -> None:
    client = docker.DockerClient(base_url=stack.engine_url)
    for image in client.images.list(CACHE_REPOSITORY):
        for tag in image.tags:
            client.images.remove(tag, force=True)


def release(stack: Stack, recipe: str | dict[str, Any], *, force: bool = False) -> Release:
    """Ask over HTTP, as CI would, and follow the build to its release."""
    key = json.loads(stack.client_config.read_text())["key"]
    with httpx.Client(base_url=stack.api_url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as api:
        started = time.monotonic()
        asked = {"recipe": recipe, "force": force}
        build: dict[str, Any] = api.post("/v1/builds", json=asked).raise_for_status().json()
        while build["finishedAt"] is None:
            time.sleep(0.05)
            build = api.get(f"/v1/builds/{build['id']}").json()
        seconds = time.monotonic() - started
        if build["state"] != "released":
            raise SystemExit(f"the build was not released: {build['problem']}")
        chain = [api.get(f"/v1/builds/{build['waitsFor']}").json()] if build["waitsFor"] else []
        steps = tuple((b["recipe"], s["name"], s["seconds"]) for b in (*chain, build) for s in b["steps"])
    return Release(seconds, steps)


def ask_again(stack: Stack, recipe: str, directory: Path) -> float:
    """Seconds that `goldsmith build RECIPE` takes for what is released already, its own start included."""
    environment = stack.environment("cli") | {"GOLDSMITH_CLIENT_CONFIG": str(stack.client_config)}
    started = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "goldsmith"), "build", recipe], env=environment, cwd=directory,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"goldsmith failed: {done.stderr[-2000:]}{done.stdout[-1000:]}")
    return time.monotonic() - started
