"""Other ways to the same image: `docker build`, `buildah bud`, and mmdebstrap alone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scripts.benchmarks.byhand import CONFIGURATION, LABEL, ByHand
from scripts.stack.services import Stack

_PROGRAMS = {"docker": "docker.io", "buildah": "buildah", "skopeo": "skopeo", "mmdebstrap": "mmdebstrap"}
_BASE_PACKAGES = ["ca-certificates", "tzdata"]
_PACKAGES = ["nginx-light"]
_BASE = "hand-base"
_NAME = "hand-web"
_TREE = "hand-tree"


def missing_programs() -> bool:
    """Whether a program of the peers is not installed; says how to install it."""
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        print(f"not installed: apt-get install {' '.join(missing)}", file=sys.stderr)
    return bool(missing)


@dataclass(frozen=True)
class Made:
    """Seconds of each step that makes the image, and of each that is added by hand to scan, sign and push it."""

    image: dict[str, float]
    added: dict[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.image.values()) + sum(self.added.values())


class Peer(Protocol):
    """`remembers` says whether it keeps steps of earlier builds; one that does not starts over each time."""

    name: str
    remembers: bool

    def cold(self) -> Made:
        """Base and image, nothing kept from before."""
        ...

    def build(self, *added: str) -> Made:
        """The image on what was kept, with more packages."""
        ...

    def clean(self) -> None: ...


class Docker:
    name = "docker build"
    remembers = True

    def __init__(self, stack: Stack, work: Path) -> None:
        self._hand = ByHand(stack, work)
        self._image = f"{stack.registry}/docker/web:latest"

    def cold(self) -> Made:
        tar = self._hand.work / "base.tar"
        base = {"mmdebstrap": self._hand.bootstrap(tar, _BASE_PACKAGES)}
        base["docker import"] = self._hand.timed(["docker", "import", "--change", f"LABEL {LABEL}=", str(tar), _BASE])
        return self._build(base, ["--no-cache"], [], database=True)

    def build(self, *added: str) -> Made:
        return self._build({}, [], added, database=False)

    def clean(self) -> None:
        self._hand.forget_images()

    def _build(self, base: dict[str, float], options: Sequence[str], added: Sequence[str], *, database: bool) -> Made:
        context = self._hand.write_context(_BASE, [*_PACKAGES, *added])
        # The container needs a way to the archive, which a build by Goldsmith never has.
        build = ["docker", "build", *options, "--network=host", "--quiet", "--label", LABEL, "-t", _NAME, str(context)]
        image = {**base, "docker build": self._hand.timed(build)}
        push = self._hand.push(f"docker-daemon:{_NAME}:latest", self._image)
        return Made(image, {"skopeo copy": push, **self._hand.evidence(self._image, database=database)})


class Buildah:
    """With overlay storage of its own, and chroot isolation: it then needs no container runtime."""

    name = "buildah bud"
    remembers = True

    def __init__(self, stack: Stack, work: Path) -> None:
        self._hand = ByHand(stack, work)
        self._image = f"{stack.registry}/buildah/web:latest"
        self._root, self._run = work / "storage", work / "run"
        self._buildah = [
            "buildah", "--root", str(self._root), "--runroot", str(self._run), "--storage-driver", "overlay",
        ]  # fmt: skip

    def cold(self) -> Made:
        context = self._hand.work / "base"
        context.mkdir()
        base = {"mmdebstrap": self._hand.bootstrap(context / "base.tar", _BASE_PACKAGES)}
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        base["buildah bud (base)"] = self._hand.timed([*self._bud(_BASE), str(context)])
        return self._build(base, ["--no-cache"], [], database=True)

    def build(self, *added: str) -> Made:
        return self._build({}, [], added, database=False)

    def clean(self) -> None:
        self._hand.timed([*self._buildah, "rmi", "--all", "--force"])

    def _bud(self, name: str) -> list[str]:
        return [*self._buildah, "bud", "--isolation", "chroot", "--network", "host", "--layers", "-t", name]

    def _build(self, base: dict[str, float], options: Sequence[str], added: Sequence[str], *, database: bool) -> Made:
        context = self._hand.write_context(f"localhost/{_BASE}", [*_PACKAGES, *added])
        image = {**base, "buildah bud": self._hand.timed([*self._bud(_NAME), *options, str(context)])}
        stored = f"containers-storage:[overlay@{self._root}+{self._run}]localhost/{_NAME}:latest"
        push = self._hand.push(stored, self._image)
        return Made(image, {"skopeo copy": push, **self._hand.evidence(self._image, database=database)})


class Mmdebstrap:
    """All packages in one go, the rest as hooks; `docker import` gives the tree a configuration."""

    name = "mmdebstrap"
    remembers = False

    def __init__(self, stack: Stack, work: Path) -> None:
        self._hand = ByHand(stack, work)
        self._image = f"{stack.registry}/mmdebstrap/web:latest"

    def cold(self) -> Made:
        return self._build([], database=True)

    def build(self, *added: str) -> Made:
        return self._build(added, database=False)

    def clean(self) -> None:
        self._hand.forget_images()

    def _build(self, added: Sequence[str], *, database: bool) -> Made:
        tar = self._hand.work / "web.tar"
        packages = [*_BASE_PACKAGES, *_PACKAGES, *added]
        image = {"mmdebstrap": self._hand.bootstrap(tar, packages, *self._hand.hooks())}
        changes = [word for line in (*CONFIGURATION, f"LABEL {LABEL}=") for word in ("--change", line)]
        image["docker import"] = self._hand.timed(["docker", "import", *changes, str(tar), _TREE])
        push = self._hand.push(f"docker-daemon:{_TREE}:latest", self._image)
        return Made(image, {"skopeo copy": push, **self._hand.evidence(self._image, database=database)})
