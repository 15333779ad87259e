"""A first recipe from a few answers: valid, commented, and as closed as what it is for allows."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from builder.errors import Fault
from builder.recipes.document import RecipeInvalid
from builder.recipes.reading import read_recipe

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9+./_-]*")
_UID = 10001
# What YAML would read as something else than text.
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


@dataclass(frozen=True)
class Draft:
    """`base` is `debian:SUITE`, `recipe:NAME` or `REPOSITORY@sha256:…`; `command` is what a container starts, as an
    argument list; `user` is the account that it runs as, None for root."""

    name: str
    description: str = ""
    base: str = "debian:trixie"
    packages: tuple[str, ...] = ()
    user: str | None = "app"
    port: int | None = None
    command: tuple[str, ...] = ()
    repository: str | None = None

    def text(self) -> str:
        """The recipe as YAML. Raises RecipeInvalid that names what is wrong with an answer."""
        found = "\n".join(
            [
                "# `goldsmith recipe validate FILE` checks it, `goldsmith build FILE` builds it, and",
                "# `goldsmith recipe schema` prints all that can be in it.",
                "apiVersion: goldsmith/v1",
                "kind: Image",
                "metadata:",
                f"  name: {_scalar(self.name)}",
                f"  description: {_scalar(self.description or f'What {self.name} is for, in a line.')}",
                "spec:",
                "  base:",
                f"    {self._base()}",
                *self._packages(),
                *self._user(),
                *self._start(),
                *_CLOSED,
                *self._tests(),
                *_POLICY,
                "  publish:",
                "    # Below the registry of the service. Tags move; the digest is what is signed.",
                f"    repository: {_scalar(self.repository or f'golden/{self.name}')}",
                "    tags: [latest]",
                "",
            ]
        )
        try:
            read_recipe(found)
        except RecipeInvalid as error:
            raise self._of_answers(error) from error
        return found

    def _of_answers(self, error: RecipeInvalid) -> RecipeInvalid:
        """Without the places in a text that nobody has seen, and without what follows from the name alone."""
        faults = [
            fault.model_copy(update={"line": None, "column": None})
            for fault in error.errors
            if self.repository is not None or fault.field != "spec.publish.repository"
        ]
        return RecipeInvalid("; ".join(str(fault) for fault in faults), errors=faults)

    def _base(self) -> str:
        kind, _, name = self.base.partition(":")
        if kind == "debian" and name:
            return f"debian: {{suite: {_scalar(name)}}}  # bootstrapped from Debian packages alone"
        if kind == "recipe" and name:
            return f"recipe: {_scalar(name)}  # that recipe's newest release; it is built first if there is none"
        if "@sha256:" in self.base:
            return f"image: {_scalar(self.base)}"
        fault = Fault(
            message=f"{self.base!r} is no base", field="spec.base",
            hint="write debian:trixie, recipe:NAME, or an image by digest, REPOSITORY@sha256:…",
        )  # fmt: skip
        raise RecipeInvalid(str(fault), errors=[fault])

    def _packages(self) -> list[str]:
        if not self.packages:
            return ["  # Debian packages, by name, or pinned: curl=8.14.1-2", "  packages: []"]
        return [
            "  # `goldsmith recipe lock` writes down the version and digest of each, and of what they need.",
            "  packages:",
            *(f"    - {_scalar(package)}" for package in self.packages),
        ]

    def _user(self) -> list[str]:
        if self.user is None:
            return []
        return [
            "  # A number that no account of a host has; its password is locked.",
            "  users:",
            f"    - name: {_scalar(self.user)}",
            f"      uid: {_UID}",
            f'  user: "{_UID}:{_UID}"',
        ]

    def _start(self) -> list[str]:
        lines = []
        if self.command:
            lines += ["  # No shell in between: signals reach it.", f"  entrypoint: {json.dumps(list(self.command))}"]
        if self.port is not None:
            lines.append(f"  ports: [{self.port}/tcp]")
        return lines

    def _tests(self) -> list[str]:
        lines = [
            "  # What must hold in a container of the finished image; an image that fails is not released.",
            "  tests:",
            "    - file: /usr/bin/apt-get",
            "      exists: false",
        ]
        if self.command and self.port is not None:
            return [*lines, f"    - port: {self.port}"]
        return [*lines, "    # - command: [/usr/bin/curl, --version]", "    #   stdout: {contains: curl}"]


_CLOSED = [
    "  hardening:",
    "    removeDocumentation: true",
    "    # dpkg's database stays, so that scanners see the packages.",
    "    removePackageManager: true",
    "  runtime:",
    "    # Where containers write; a comparison calls everything else that changed drift.",
    "    writable: [/tmp]",
]
_POLICY = [
    "  # May be stricter than the organisation's policy, never looser.",
    "  policy:",
    "    maximumSeverity: high",
    "    ignoreUnfixed: true",
]


def _scalar(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text, ensure_ascii=False)
