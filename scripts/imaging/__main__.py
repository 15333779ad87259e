"""`python -m scripts.imaging images STATE` and `… secrets DIRECTORY`: what scripts/images and scripts/secrets call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import docker

from scripts.imaging.secrets import SecretEmpty, write_secrets
from scripts.imaging.service import ImageNotReleased, build_images, own_archive
from scripts.stack.processes import StackFailed
from scripts.stack.services import Stack


def main(arguments: list[str]) -> int:
    action, where = arguments
    try:
        if action == "secrets":
            _secrets(Path(where))
        else:
            _images(Stack(Path(where)), Path(where) / "images")
    except subprocess.CalledProcessError as error:
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode("utf-8", "replace")
        print(f"{action}: {Path(error.cmd[0]).name} failed: {said.strip()[-2000:]}", file=sys.stderr)
        return 1
    except (StackFailed, ImageNotReleased, SecretEmpty, OSError, ValueError) as error:
        print(f"{action}: {error}", file=sys.stderr)
        return 1
    return 0


def _secrets(directory: Path) -> None:
    """Ports are those of goldsmith.env, where there are any."""
    file = Path(os.environ.get("GOLDSMITH_ENV") or "goldsmith.env")
    lines = file.read_text().splitlines() if file.exists() else []
    given = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    ports = {name: int(given.get(f"GOLDSMITH_{name}_PORT") or usual) for name, usual in _PORTS.items()}
    for file in write_secrets(directory, redis_port=ports["REDIS"], postgresql_port=ports["POSTGRESQL"]):
        print(file)


def _images(stack: Stack, work: Path) -> None:
    say = _say
    with own_archive(work) as archives:
        stack.process("worker-build").stop()
        stack.overrides["EXTRA_ARCHIVES"] = str(archives)
        stack.up(lambda _: None)
        try:
            images = build_images(stack, say)
        finally:
            stack.process("worker-build").stop()
            del stack.overrides["EXTRA_ARCHIVES"]
            stack.start("worker-build")
    engine = docker.DockerClient(base_url=stack.engine_url)
    for reference in images.values():
        engine.images.pull(reference)
    file = work / "images.env"
    file.write_text("".join(f"{variable}={reference}\n" for variable, reference in images.items()))
    say(f"{file}: give it to compose with --env-file")


def _say(line: str) -> None:
    print(line, flush=True)


_PORTS = {"REDIS": 6379, "POSTGRESQL": 5432}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
