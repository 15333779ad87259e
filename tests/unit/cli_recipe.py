"""A recipe file to lock and to build, for tests of commands."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from builder.planning.agreement import locked_files, requested
from builder.planning.lock import Lock, LockedBase, LockedPackage
from builder.planning.lockfile import format_lock
from builder.recipes.catalogue import read_recipe_file
from tests.unit.cli_commands import playing
from tests.unit.cli_server import Api
from tests.unit.locks import package

RECIPE = """apiVersion: goldsmith/v1
kind: Image
metadata: {name: mine}
spec:
  base: {debian: {suite: trixie}}
  packages: [hello]
  files: [{path: /etc/motd, source: motd}]
  publish: {repository: my/mine}
"""
HELLO = package("hello", "2.10-3", "1" * 64)
NEWER = package("hello", "2.10-5", "2" * 64)


@dataclass(frozen=True)
class Mine:
    """A recipe file with a file beside it, and perhaps its lock."""

    api: Api
    directory: Path

    @property
    def file(self) -> str:
        return str(self.directory / "mine.yaml")

    @property
    def beside(self) -> Path:
        return self.directory / "mine.lock.json"

    def change(self, old: str, new: str) -> None:
        path = self.directory / "mine.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def lock(self, *packages: LockedPackage) -> Lock:
        """What resolving the recipe as it is now gives."""
        recipe = read_recipe_file(self.directory / "mine.yaml")
        return Lock(
            builder="goldsmith 0",
            epoch=1_700_000_000,
            requested=requested(recipe),
            base=LockedBase(suite="trixie", architecture="amd64", packages=(package("apt", sha256="a" * 64),)),
            files=locked_files(recipe),
            packages=packages,
        )

    def locked(self, *packages: LockedPackage) -> str:
        """Put a lock beside the recipe; the answer is its text."""
        self.beside.write_text(format_lock(self.lock(*packages)))
        return self.beside.read_text()

    def resolving(self, *packages: LockedPackage) -> AbstractContextManager[None]:
        lock = self.lock(*packages)
        return playing(self.api, "mine", lambda worker: worker.lock(lock))


def new_recipe(api: Api, directory: Path) -> Mine:
    (directory / "mine.yaml").write_text(RECIPE)
    (directory / "motd").write_text("welcome\n")
    return Mine(api, directory)
