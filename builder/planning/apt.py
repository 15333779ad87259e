"""The archive's own resolver, apt, asked on paper: which .debs would a system with this dpkg status get?

apt runs on the host with a configuration and a state of its own, so that nothing of the host's leaks in and nothing is
installed. Indexes are fetched and their signatures checked by apt; the sha256 of every package comes from them.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

from builder.errors import Broken, Fault, ProgramFailed, Rejected
from builder.locking import exclusive
from builder.planning.debs import DebStore, field, made_at
from builder.planning.indexes import ArchiveUnavailable, packages_in
from builder.planning.lock import LockedArchive, LockedPackage
from builder.planning.mirrored import HELPER
from builder.planning.mirrors import Mirrors, refuse_misnamed
from builder.process import Completed, run

_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>[^\s/]+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")
_WORD = re.compile("[a-z][a-z0-9-]{0,31}")
_UPDATE_SECONDS = 180
_FETCH_SECONDS = 900

_CONFIGURATION = """\
Dir "{root}";
Dir::Etc::SourceList "{root}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "/dev/null";
Dir::Etc::Preferences "{root}/preferences";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{root}/state";
Dir::State::Lists "{root}/lists";
Dir::State::Status "{status}";
Dir::Cache "{root}/cache";
Dir::Cache::Archives "{archives}";
Dir::Log "{root}/log";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Assume-Yes "true";
APT::Cmd::Pattern-Only "true";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::ForceHash "sha256";
Acquire::Retries "3";
Acquire::http::Timeout "20";
"""

# What an archive beside Debian's also has stays Debian's: nobody replaces a package by a higher version of its name.
# Below 1000, so that nothing installed is taken back to an older version (apt_preferences(5)).
_PREFERENCES = """\
Package: *
Pin: release o=Debian
Pin-Priority: 990
"""


class SuiteUnknown(Rejected):
    slug = "suite-unknown"
    title = "The Debian archive has no such suite"


class PackageUnknown(Rejected):
    slug = "package-unknown"
    title = "The Debian archive has no such package"


class PackagesConflict(Rejected):
    slug = "packages-conflict"
    title = "The packages cannot be installed together"


@dataclass(frozen=True)
class Resolved:
    """What an installation would add, in the order of names, and when the newest of it was made (UTC seconds)."""

    packages: tuple[LockedPackage, ...]
    newest: int


@dataclass(frozen=True)
class _Planned:
    """A download that apt would make: `size` in bytes, `sha256` in hex, `path` below the archive's base URL, `vendor`
    who made it if not Debian."""

    uri: str
    file: str
    size: int
    sha256: str
    path: str | None
    vendor: str | None

    def locked(self) -> LockedPackage:
        """apt names the file after package, version and architecture, each percent-encoded."""
        name, version, architecture = (unquote(part) for part in self.file.removesuffix(".deb").split("_"))
        return LockedPackage(
            name=name,
            version=version,
            architecture=architecture,
            size=self.size,
            sha256=self.sha256,
            path=self.path,
            vendor=self.vendor,
        )


class AptArchive:
    """One suite of one architecture, its indexes kept in `directory` and shared by all workers of a host.

    Raises SuiteUnknown for words that no archive could know.
    """

    def __init__(
        self,
        directory: Path,
        *,
        mirrors: Mirrors,
        suite: str,
        components: Sequence[str],
        architecture: str,
        debs: DebStore,
        index_seconds: float,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        for word in (suite, architecture, *components):
            # They stand in apt's configuration, where a quote and a semicolon begin a setting of their own.
            if not _WORD.fullmatch(word):
                raise SuiteUnknown(f"{word[:60]!r} is no suite, component or architecture of a Debian archive")
        sources = mirrors.sources(suite, list(components))
        key = hashlib.sha256(f"{sources}{architecture}".encode()).hexdigest()[:16]
        self._root = (directory / f"{suite}-{architecture}-{key}").absolute()
        self._sources = sources
        self._mirrors = mirrors
        self._suite = suite
        self._architecture = architecture
        self._debs = debs
        self._index_seconds = index_seconds
        self._should_stop = should_stop

    def refresh(self) -> tuple[LockedArchive, ...]:
        """Fetch the indexes unless they are recent. Raises SuiteUnknown or ArchiveUnavailable."""
        with self._locked():
            stamp = self._root / "refreshed"
            if not stamp.exists() or time.time() - stamp.stat().st_mtime > self._index_seconds:
                stamp.unlink(missing_ok=True)
                self._update()
                if self._mirrors.extra:
                    refuse_misnamed(self._mirrors, self._targets("$(REPO_URI)\t$(ORIGIN)"))
                stamp.touch()
            return self._archives()

    def stated(self, digests: Iterable[str]) -> list[LockedPackage]:
        """The packages with these sha256 (hex) that the indexes state. Needs `refresh` before."""
        wanted = frozenset(digests)
        with self._locked():
            files, makers = sorted((self._root / "lists").glob("*_Packages")), self._makers()
            return [package for file in files for package in packages_in(file, wanted, makers.get(str(file)))]

    def resolve(self, packages: Sequence[str], *, status: bytes = b"") -> Resolved:
        """Which packages installing `packages` adds to a system with that dpkg status; all are in the store afterwards.

        Raises PackageUnknown, PackagesConflict or ArchiveUnavailable.
        """
        if not packages:
            return Resolved((), 0)
        with self._locked(), tempfile.TemporaryDirectory(dir=self._root, prefix="resolve-") as work:
            status_file = self._status_file(status)
            planned = self._plan(packages, Path(work), status_file)
            self._fetch(planned, Path(work))
        locked = [one.locked() for one in planned]
        newest = max(made_at(self._debs.path(package.sha256)) for package in locked) if locked else 0
        return Resolved(tuple(sorted(locked, key=lambda package: (package.name, package.architecture))), newest)

    def versions(self, packages: Sequence[str], *, status: bytes) -> str:
        """What `apt-cache policy` tells of packages to a system with that dpkg status. Needs `refresh` before."""
        with self._locked():
            done = self._program(
                "apt-cache", "policy", "--", *packages, status=self._status_file(status), archives=None, timeout=120
            )
        return done.stdout.decode("utf-8", "replace")

    def _status_file(self, status: bytes) -> Path:
        """The same path for the same content: apt's own cache is then good for the next plan too."""
        path = self._root / f"status-{hashlib.sha256(status).hexdigest()[:16]}"
        if not path.exists():
            for before in self._root.glob("status-*"):
                before.unlink()
            written = path.with_name("written-status")
            written.write_bytes(status)
            written.replace(path)
        return path

    def _locked(self) -> AbstractContextManager[None]:
        return exclusive(self._root.parent / f"{self._root.name}.lock")

    def _update(self) -> None:
        for part in ("lists/partial", "cache", "state", "archives/partial", "log"):
            (self._root / part).mkdir(parents=True, exist_ok=True)
        (self._root / "sources.list").write_text(self._sources, "utf-8")
        (self._root / "preferences").write_text(_PREFERENCES if self._mirrors.extra else "", "utf-8")
        (self._root / "empty-status").touch()
        try:
            done = self._apt("update", "--error-on=any", timeout=_UPDATE_SECONDS)
        except ProgramFailed as error:
            if "does not have a Release file" in error.stderr_tail:
                raise SuiteUnknown(
                    f"the Debian archive has no suite {self._suite!r} with these components",
                    hint="see spec.base.debian; suites are named like 'trixie'",
                ) from error
            raise ArchiveUnavailable(
                f"the indexes of {self._suite} could not be fetched: {_last_error(error.stderr_tail)}",
                hint="check the network, or GOLDSMITH_DEBIAN_MIRROR",
            ) from error
        missing = re.search(
            rf"repository '\S+ {re.escape(self._suite)} InRelease' doesn't have the component '([^']+)'",
            done.stderr.decode("utf-8", "replace"),
        )
        if missing:
            raise SuiteUnknown(
                f"the suite {self._suite!r} has no component {missing[1]!r}", hint="see spec.base.debian.components"
            )

    def _archives(self) -> tuple[LockedArchive, ...]:
        archives = []
        for path in sorted((self._root / "lists").glob("*_InRelease")):
            text = path.read_text("utf-8", "replace")
            archives.append(
                LockedArchive(
                    suite=field(text, "Codename") or field(text, "Suite"),
                    label=field(text, "Label"),
                    release_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                    date=field(text, "Date"),
                )
            )
        return tuple(sorted(archives, key=lambda archive: (archive.label, archive.suite)))

    def _plan(self, packages: Sequence[str], work: Path, status: Path) -> list[_Planned]:
        try:
            done = self._apt("install", "--print-uris", "-qq", "--", *packages, status=status, archives=work)
        except ProgramFailed as error:
            raise self._told(error, packages) from error
        planned = []
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            match = _URI.match(line)
            if match:
                path, vendor = self._place_of(match["uri"])
                planned.append(_Planned(match["uri"], match["file"], int(match["size"]), match["sha256"], path, vendor))
            elif line.startswith("'"):
                raise Broken(f"apt plans a download that cannot be locked: {line[:300]}")
        return planned

    def _place_of(self, uri: str) -> tuple[str | None, str | None]:
        """Where below its archive's base URL a package is, and whose that archive is."""
        found = self._mirrors.place(uri)
        return (None, None) if found is None else (unquote(found[1]), self._mirrors.vendor(found[0]))

    def _makers(self) -> dict[str, str | None]:
        """Who makes the packages of an index, by its file; none where all are Debian's."""
        if not self._mirrors.extra:
            return {}
        told = self._targets("$(FILENAME)\t$(REPO_URI)")
        return {file: self._mirrors.vendor(base.rstrip("/")) for file, base in told}

    def _targets(self, form: str) -> list[tuple[str, str]]:
        """Two facts of each index that apt has (apt-get(8), indextargets)."""
        done = self._apt("indextargets", "--format", form, "Created-By: Packages").stdout.decode("utf-8", "replace")
        return [(first, second) for first, _, second in (line.partition("\t") for line in done.splitlines())]

    def _fetch(self, planned: list[_Planned], work: Path) -> None:
        missing = [one for one in planned if not self._debs.has(one.sha256)]
        if not missing:
            return
        # apt's downloader alone: apt itself would read all indexes and plan once more.
        wanted = [(one.uri, str(work / one.file), f"SHA256:{one.sha256}") for one in missing]
        try:
            self._program(
                HELPER, "download-file", *chain.from_iterable(wanted),
                status=None, archives=None, timeout=_FETCH_SECONDS,
            )  # fmt: skip
        except ProgramFailed as error:
            raise ArchiveUnavailable(
                f"packages could not be fetched: {_last_error(error.stderr_tail)}",
                hint="check the network, or GOLDSMITH_DEBIAN_MIRROR",
            ) from error
        for one in missing:
            self._debs.add(work / one.file, one.sha256)

    def _told(self, error: ProgramFailed, packages: Sequence[str]) -> Rejected:
        """apt's complaint in the terms of the recipe."""
        text = error.stderr_tail
        names = sorted(set(re.findall(r"Unable to locate package (\S+)", text)))
        virtual = sorted(set(re.findall(r"Package '?([^\s']+)'? has no installation candidate", text)))
        versions = re.findall(r"Version '([^']+)' for '([^']+)' was not found", text)
        faults = [
            Fault(
                message=f"there is no package {name!r} in {self._suite}",
                field=_field_of(name, packages),
                hint=self._nearest(name),
            )
            for name in names
        ]
        faults += [
            Fault(
                message=f"{name!r} is no package of {self._suite}, only a name that packages provide or mention",
                field=_field_of(name, packages),
                hint="name one of those packages",
            )
            for name in virtual
        ]
        faults += [
            Fault(
                message=f"{name} has no version {version} in {self._suite}",
                field=_field_of(f"{name}={version}", packages),
                hint="leave the version out to get the archive's newest",
            )
            for version, name in versions
        ]
        if faults:
            return PackageUnknown("; ".join(str(fault) for fault in faults), errors=faults)
        return PackagesConflict(
            f"apt cannot install these packages together: {_last_error(text)}", hint="see spec.packages"
        )

    def _nearest(self, name: str) -> str | None:
        known = self._program("apt-cache", "pkgnames", status=None, archives=None, timeout=60)
        near = difflib.get_close_matches(name, known.stdout.decode("utf-8", "replace").split(), n=3, cutoff=0.7)
        return f"did you mean {' or '.join(repr(word) for word in near)}?" if near else None

    def _apt(
        self,
        *arguments: str,
        status: Path | None = None,
        archives: Path | None = None,
        timeout: float = 120,
    ) -> Completed:
        return self._program("apt-get", *arguments, status=status, archives=archives, timeout=timeout)

    def _program(
        self, program: str, *arguments: str, status: Path | None, archives: Path | None, timeout: float
    ) -> Completed:
        configuration = _CONFIGURATION.format(
            root=self._root,
            status=status or self._root / "empty-status",
            archives=archives or self._root / "archives",
            architecture=self._architecture,
        )
        with tempfile.NamedTemporaryFile("w", dir=self._root, prefix="apt-", suffix=".conf") as file:
            file.write(configuration)
            file.flush()
            return run(
                [program, *arguments],
                timeout=timeout,
                env={"APT_CONFIG": file.name, "DEBIAN_FRONTEND": "noninteractive"},
                should_stop=self._should_stop,
            )


def _last_error(text: str) -> str:
    lines = [line[2:].strip() for line in text.splitlines() if line.startswith("E:")]
    return lines[0] if lines else (text.splitlines() or ["apt said nothing"])[-1]


def _field_of(name: str, packages: Sequence[str]) -> str | None:
    return f"spec.packages[{list(packages).index(name)}]" if name in packages else None
