"""The Trivy binary: which one it is, and one way to run it that nothing on the machine can change."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from builder.errors import ProgramFailed, ProgramMissing
from builder.process import Completed, run
from builder.scanning.complaints import complaint_in
from builder.scanning.errors import ScanIncomplete, ScannerNotAllowed, ScannerUnusable
from builder.scanning.findings import ScannerIdentity

# Trivy would read trivy.yaml, .trivyignore and trivy-secret.yaml from where it runs, and each can hide findings.
_NOTHING_FROM_OUTSIDE = ("--config", "")
QUIET = ("--no-progress", "--skip-version-check", "--disable-telemetry")
_VERSION_SECONDS = 30.0
_GIB = 1024**3
# Above a real database (0.9 GB) and what the memory of layers may grow to; below what would fill a disk unseen.
_LARGEST_FILE = 4 * _GIB
_WORDS = 500


@dataclass(frozen=True)
class Credentials:
    """A login at a registry. Trivy takes lists of them, parted by commas or blanks, so neither part may hold one."""

    username: str
    password: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        if any(character == "," or character.isspace() for character in self.username + self.password):
            raise ScannerUnusable(
                "the registry's user name or password has a comma or a blank, which Trivy takes for the end of it",
                hint="give the scanner a login without them",
            )
        return {"TRIVY_USERNAME": self.username, "TRIVY_PASSWORD": self.password}


class Trivy:
    """One binary. `path` must be the program itself: the digest of a launcher script would say nothing about it.

    `allowed` are the lower-case hex sha256 of the binaries that may run; none given allows any. `memory` is in bytes,
    for each run: Go's collector is told of it, and what needs more all the same is ended.
    """

    def __init__(self, path: Path, *, allowed: Collection[str] = (), memory: int = 2 * _GIB) -> None:
        self.path = path
        self._allowed = frozenset(allowed)
        self._memory = memory

    def identity(self) -> ScannerIdentity:
        """Its version and the digest of its file. Raises ScannerUnusable, ScannerNotAllowed or ProgramMissing."""
        digest = self._checked()
        return ScannerIdentity(name="trivy", version=_version_of(self.path, digest), sha256=digest)

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        timeout: float,
        env: Mapping[str, str] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Completed:
        """Run a subcommand in the private directory `cwd`, which is also its home and its place for temporary files.

        Raises ScanIncomplete where it ends well but says that it has not looked at everything; else what `process.run`
        raises, and what `identity` raises before anything runs.
        """
        self._checked()
        private = {
            "HOME": os.fspath(cwd),
            "TMPDIR": os.fspath(cwd),
            "XDG_CACHE_HOME": os.fspath(cwd),
            "GOMEMLIMIT": str(self._memory * 3 // 4),
            **(env or {}),
        }
        command = [os.fspath(self.path), *arguments[:1], *_NOTHING_FROM_OUTSIDE, *arguments[1:]]
        complaints: list[str] = []

        def listen(line: str) -> None:
            complaint = None if complaints else complaint_in(line)
            if complaint is not None:
                complaints.append(complaint)

        completed = run(
            command,
            timeout=timeout,
            env=private,
            cwd=cwd,
            max_output=1 << 20,
            on_stderr=listen,
            should_stop=should_stop,
            max_memory=self._memory,
            max_file=_LARGEST_FILE,
        )
        if complaints:
            raise ScanIncomplete(
                f"Trivy ended well but has not looked at everything: {complaints[0]}",
                hint="what it could not read must be mended; docs/scanning.md says which of its messages count",
            )
        return completed

    def _checked(self) -> str:
        """The digest of the binary, which is one that may run."""
        try:
            stat = self.path.stat()
        except OSError as error:
            raise ProgramMissing(
                f"the scanner {self.path} cannot be read: {error.strerror}",
                hint="set GOLDSMITH_TRIVY to Trivy's binary",
            ) from error
        # Nobody can set a file's change time, so no change goes unnoticed.
        digest = _digest(self.path, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        if self._allowed and digest not in self._allowed:
            raise ScannerNotAllowed(
                f"the scanner {self.path} has sha256 {digest}, which GOLDSMITH_TRIVY_SHA256 does not name; it was not "
                "started",
                hint="compare it with the checksums of Trivy's release, then add it to GOLDSMITH_TRIVY_SHA256",
            )
        return digest

    def run_on_registry(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        timeout: float,
        insecure: bool,
        credentials: Credentials | None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Completed:
        """`trivy image` against a registry. `insecure` allows plain HTTP and unknown certificates."""
        # Trivy's own limit lies behind ours, so that a scan which takes too long always ends the same way.
        options = ["image", *QUIET, "--timeout", f"{int(timeout) + 30}s", *(["--insecure"] if insecure else [])]
        login = credentials.environment() if credentials else None
        return self.run([*options, *arguments], cwd=cwd, timeout=timeout, env=login, should_stop=should_stop)


@contextmanager
def private_directory() -> Iterator[Path]:
    """A directory of mode 0700 for one run, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="goldsmith-trivy-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@lru_cache(maxsize=4)
def _digest(path: Path, _stat: tuple[int, ...]) -> str:
    try:
        with path.open("rb") as file:
            if file.read(2) == b"#!":
                raise ScannerUnusable(
                    f"{path} is a script, so its digest would not name the scanner",
                    hint="set GOLDSMITH_TRIVY to the Trivy binary itself",
                )
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ProgramMissing(f"the scanner {path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4)
def _version_of(path: Path, _digest: str) -> str:
    with private_directory() as cwd:
        answer = Trivy(path).run(["version", "--format", "json"], cwd=cwd, timeout=_VERSION_SECONDS)
    try:
        version = json.loads(answer.stdout)["Version"]
    except (ValueError, KeyError, TypeError):
        version = None
    if not isinstance(version, str) or not version:
        raise ScannerUnusable(f"{path} does not tell a version as Trivy does", hint="set GOLDSMITH_TRIVY to Trivy")
    return version


def last_words(error: ProgramFailed) -> str:
    """Why Trivy ended: the signal, or its FATAL message, whose cause stands at the end; else its last lines."""
    if error.exit_code is not None and error.exit_code < 0:
        return f"killed by signal {-error.exit_code}"
    text = " ".join(error.stderr_tail.rpartition("FATAL")[2].replace("Fatal error", "", 1).split())
    if not text:
        return error.detail
    return text if len(text) <= _WORDS else f"… {text[-_WORDS:]}"
