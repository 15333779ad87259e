"""What a recipe does to a base, step by step, inside a build container."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from builder.engine.accounts import Accounts
from builder.engine.claims import parse_status
from builder.engine.container import Check, Container
from builder.engine.secrets import BuildSecrets
from builder.errors import Broken, Rejected
from builder.planning.debs import DebStore
from builder.planning.flat import write_flat_archive
from builder.planning.lock import LockedPackage
from builder.recipes.files import content_of
from builder.recipes.model import Arguments, File, RunStep, User

# Below /run, which the canonical form empties: nothing of it can stay in an image.
_WORK = "run/goldsmith"
_APT = [
    "apt-get", "-o", f"Dir::Etc::SourceList=/{_WORK}/sources.list", "-o", "Dir::Etc::SourceParts=/dev/null",
    "-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0",
    "-o", "DPkg::Options::=--force-unsafe-io", "-o", "DPkg::Options::=--force-confold", "-qq",
]  # fmt: skip
_POLICY = "usr/sbin/policy-rc.d"
# What a shell answers for a command that a signal ended: SIGKILL is also the kernel's for want of memory.
_MEANINGS = {
    137: " (killed, as what needs more memory than GOLDSMITH_BUILD_MEMORY_BYTES is)",
    153: " (a file grew larger than GOLDSMITH_BUILD_DISK_BYTES)",
}


class InstallFailed(Rejected):
    slug = "install-failed"
    title = "The packages could not be installed"


class RunFailed(Rejected):
    slug = "run-failed"
    title = "A command of the recipe failed"


class NoPackageManager(Rejected):
    slug = "no-package-manager"
    title = "The base has no apt"


@dataclass
class Assembly:
    """A build container and what every step needs: who watches it, when it must be done, where its output goes.

    `epoch` is in UTC seconds, `deadline` on the monotonic clock.
    """

    container: Container
    epoch: int
    check: Check
    deadline: float
    on_line: Callable[[str], None]
    spool: Path
    secrets: BuildSecrets = field(default_factory=lambda: BuildSecrets({}))
    _accounts: dict[str, tuple[tarfile.TarInfo, bytes]] | None = field(default=None, init=False, repr=False)

    def dpkg_status(self) -> bytes:
        return self.container.read("/var/lib/dpkg/status") or b""

    def install(self, names: Sequence[str], packages: Sequence[LockedPackage], debs: DebStore) -> None:
        """Install exactly the locked packages from a local archive. Raises InstallFailed or NoPackageManager."""
        if not packages:
            return
        if not self.container.exists("/usr/bin/apt-get"):
            raise NoPackageManager(
                "spec.packages: the base image has no apt", hint="choose a base that has, or leave packages out"
            )
        had_policy = self.container.exists(f"/{_POLICY}")
        self._put_archive(packages, debs, with_policy=not had_policy)
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "--", *names]):
            ran = self._run([*_APT, *arguments])
            if ran:
                raise InstallFailed(f"apt-get {arguments[0]} failed: {ran}", hint="the build's log has all of it")
        self._check_installed(packages)
        leave = ["rm", "-rf", f"/{_WORK}"] if had_policy else ["rm", "-rf", f"/{_WORK}", f"/{_POLICY}"]
        if self._run(leave):
            raise Broken("the package archive could not be removed from the build container")

    def add_users(self, users: Sequence[User]) -> None:
        """Add accounts. Raises AccountConflict."""
        before = self.accounts()
        self._write_accounts(before, before.add(users))

    def lock_passwords(self) -> None:
        """Take every password away, also those that the recipe's own commands set."""
        before = self.accounts()
        self._write_accounts(before, before.locked())

    def _write_accounts(self, before: Accounts, after: Accounts) -> None:
        changed = {"passwd": (after.passwd, before.passwd), "group": (after.group, before.group),
                   "shadow": (after.shadow, before.shadow)}  # fmt: skip
        written = {name: new for name, (new, old) in changed.items() if new is not None and new != old}
        if not written:
            return
        there = self._account_files()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, new in written.items():
                content = new.encode("utf-8", "surrogateescape")
                header = self._header(f"etc/{name}", 0o644)
                if name in there:
                    found = there[name][0]
                    header.mode, header.uid, header.gid = found.mode & 0o7777, found.uid, found.gid
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
                there[name] = header, content
        self.container.put(buffer.getvalue())

    def put_files(self, files: Sequence[File]) -> None:
        """Put the recipe's files in, and the directories above them where they are missing (0755, root)."""
        if not files:
            return
        accounts = self.accounts()
        made: set[str] = set()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for file in files:
                for parent in _parents(file.path):
                    if parent not in made and not self.container.exists(f"/{parent}"):
                        tar.addfile(self._header(parent, 0o755, kind=tarfile.DIRTYPE))
                    made.add(parent)
                content = content_of(file)
                uid, gid = accounts.owner(file.owner)
                header = self._header(file.path.lstrip("/"), int(file.mode, 8), uid, gid)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
                self.on_line(f"{file.path} ({len(content)} bytes, {file.owner}, {file.mode})")
        self.container.put(buffer.getvalue())

    def run(self, steps: Sequence[Arguments | RunStep], environment: dict[str, str]) -> None:
        """Run the recipe's own commands, in order, each without a network or secrets unless it asks for them.

        Raises RunFailed with the end of what the command said.
        """
        for index, written in enumerate(steps):
            step = written if isinstance(written, RunStep) else RunStep(command=written)
            shown = " ".join(step.command) if step.command else "shell script"
            given = f" (with the secrets {', '.join(step.secrets)})" if step.secrets else ""
            self.on_line(f"$ {shown}" + (" (with a network)" if step.network else "") + given)
            values = self.secrets.named(step.secrets)
            with (
                self.container.networked() if step.network else nullcontext(),
                self.container.holding(values, self.deadline) if values else nullcontext(),
            ):
                said = self.secrets.redacted(self._run(step.argv, environment))
            if said:
                raise RunFailed(
                    f"spec.run[{index}] ({shown[:200]}) failed: {said}", hint="the build's log has all of it"
                )

    def files_of(self, packages: Sequence[str]) -> list[str]:
        """The paths that dpkg lists for packages."""
        found: list[str] = []
        for package in packages:
            listed = self.container.read(f"/var/lib/dpkg/info/{package}.list") or b""
            found += filter(None, listed.decode("utf-8", "surrogateescape").split("\n"))
        return found

    def accounts(self) -> Accounts:
        there = self._account_files()

        def text(name: str) -> str | None:
            return there[name][1].decode("utf-8", "surrogateescape") if name in there else None

        return Accounts(text("passwd") or "", text("group") or "", text("shadow"))

    def _account_files(self) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        """As they were last read or written; read anew once a command has run."""
        if self._accounts is None:
            found = self.container.members("/etc", {"passwd", "group", "shadow"}.__contains__)
            self._accounts = {name: (header, content) for name, header, content in found if header.isfile()}
        return self._accounts

    def _run(self, argv: Sequence[str], environment: dict[str, str] | None = None) -> str:
        """Empty when the command succeeds, else its exit code and the end of what it said."""
        self._accounts = None
        ran = self.container.run(
            argv,
            check=self.check,
            deadline=self.deadline,
            on_line=lambda line: self.on_line(self.secrets.redacted(line)),
            environment={
                "SOURCE_DATE_EPOCH": str(self.epoch),
                "DEBIAN_FRONTEND": "noninteractive",
                "LC_ALL": "C.UTF-8",
                "HOME": "/root",
                **(environment or {}),
            },
        )
        if ran.exit_code == 0:
            return ""
        lines = (ran.stderr or ran.stdout).strip().splitlines()[-6:]
        return f"exit code {ran.exit_code}{_MEANINGS.get(ran.exit_code, '')}: " + (
            "\n".join(lines) or "it said nothing"
        )

    def _put_archive(self, packages: Sequence[LockedPackage], debs: DebStore, *, with_policy: bool) -> None:
        with (
            tempfile.TemporaryDirectory(dir=self.spool, prefix="archive-") as work,
            tempfile.TemporaryFile(dir=self.spool) as spooled,
        ):
            write_flat_archive(Path(work), packages, debs)
            with tarfile.open(fileobj=spooled, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for path in (_WORK, f"{_WORK}/archive"):
                    tar.addfile(self._header(path, 0o755, kind=tarfile.DIRTYPE))
                for file in sorted(Path(work).iterdir()):
                    header = self._header(f"{_WORK}/archive/{file.name}", 0o644)
                    header.size = file.stat().st_size
                    with file.open("rb") as stream:
                        tar.addfile(header, stream)
                texts = {f"{_WORK}/sources.list": (f"deb [trusted=yes] copy:/{_WORK}/archive ./\n", 0o644)}
                if with_policy:
                    # Maintainer scripts ask it whether they may start services; in an image none may (policy-rc.d).
                    texts[_POLICY] = ("#!/bin/sh\nexit 101\n", 0o755)
                for path, (text, mode) in texts.items():
                    header = self._header(path, mode)
                    header.size = len(text)
                    tar.addfile(header, io.BytesIO(text.encode()))
            spooled.seek(0)
            self.container.put(spooled)

    def _check_installed(self, packages: Sequence[LockedPackage]) -> None:
        """The lock is what was installed: nothing else, nothing less."""
        installed = parse_status(self.dpkg_status())
        missing = [p for p in packages if (p.name, p.version, p.architecture) not in installed]
        if missing:
            names = ", ".join(f"{package.name} {package.version}" for package in missing[:5])
            raise InstallFailed(f"locked but not installed afterwards: {names}")

    def _header(
        self, path: str, mode: int, uid: int = 0, gid: int = 0, kind: bytes = tarfile.REGTYPE
    ) -> tarfile.TarInfo:
        header = tarfile.TarInfo(path)
        header.type, header.mode, header.uid, header.gid, header.mtime = kind, mode, uid, gid, self.epoch
        return header


def _parents(path: str) -> list[str]:
    parts = path.strip("/").split("/")[:-1]
    return ["/".join(parts[: index + 1]) for index in range(len(parts))]
