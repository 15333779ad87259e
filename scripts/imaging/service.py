"""Goldsmith's own images, built by a running Goldsmith, and what compose calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.imaging.archive import serving, write_archive
from scripts.imaging.package import make_package
from scripts.stack.services import ROOT, Stack

SUITE = "trixie"
# The recipe of each image, by compose's variable.
RECIPES = {
    "GOLDSMITH_IMAGE": "goldsmith",
    "GOLDSMITH_BUILDER_IMAGE": "goldsmith-builder",
    "GOLDSMITH_POSTGRESQL_IMAGE": "postgresql",
    "GOLDSMITH_REDIS_IMAGE": "redis",
    "GOLDSMITH_REGISTRY_IMAGE": "registry",
}


class ImageNotReleased(Exception):
    """The build of one of our own images ended otherwise."""


@contextmanager
def own_archive(work: Path) -> Iterator[Path]:
    """Make the package and serve an archive of it on loopback; yields the file for GOLDSMITH_EXTRA_ARCHIVES."""
    work.mkdir(parents=True, exist_ok=True)
    archive = work / "archive"
    package = make_package(work)
    keyring = write_archive(archive, [package], suite=SUITE, origin="Goldsmith", gnupg=work / "gnupg")
    with serving(archive) as url:
        one = {"vendor": "goldsmith", "url": url, "keyring": str(keyring), "suites": [SUITE]}
        file = work / "archives.yaml"
        file.write_text(json.dumps({"apiVersion": "goldsmith/v1", "kind": "ExtraArchives", "archives": [one]}))
        yield file


def build_images(stack: Stack, say: Callable[[str], None]) -> dict[str, str]:
    """Compose's variables with a reference by digest each. Raises ImageNotReleased."""
    return {variable: _build(stack, recipe, say) for variable, recipe in RECIPES.items()}


def _build(stack: Stack, recipe: str, say: Callable[[str], None]) -> str:
    env = stack.environment("cli") | {"GOLDSMITH_CLIENT_CONFIG": str(stack.client_config)}
    done = subprocess.run(
        [sys.executable, "-m", "builder.cli", "build", ROOT / f"recipes/service/{recipe}.yaml", "--update", "--json"],
        env=env, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        told = json.loads(done.stdout)["problem"]["detail"] if done.stdout else done.stderr.strip()
        raise ImageNotReleased(f"{recipe} was not released: {told}")
    reference = str(json.loads(done.stdout)["result"]["reference"])
    say(f"{recipe}: {reference}")
    return reference
