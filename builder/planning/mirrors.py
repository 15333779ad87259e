"""Where Debian's archives are: from settings, or else wherever this host's own apt gets its packages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from builder.errors import Broken, ProgramMissing
from builder.planning.extra import ExtraArchive
from builder.process import run

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_ROLLING = {"sid", "unstable", "experimental"}


class MirrorUnknown(Broken):
    slug = "mirror-unknown"
    title = "Goldsmith does not know where to get Debian packages"


@dataclass(frozen=True)
class Mirrors:
    """Base URLs of the main archive and of the security archive, without a slash at the end, and archives beside."""

    main: str
    security: str
    extra: tuple[ExtraArchive, ...] = ()

    @property
    def bases(self) -> tuple[str, ...]:
        return (self.main, self.security, *(archive.base for archive in self.extra))

    def place(self, url: str) -> tuple[str, str] | None:
        """The base URL that a URL lies below, and its path from there; of two, the longer."""
        for base in sorted(self.bases, key=len, reverse=True):
            if url.startswith(f"{base}/"):
                return base, url.removeprefix(f"{base}/")
        return None

    def vendor(self, base: str) -> str | None:
        """Who makes the packages below a base URL; None for Debian."""
        return next((archive.vendor for archive in self.extra if archive.base == base), None)

    def sources(self, suite: str, components: list[str]) -> str:
        """An apt sources.list for a suite with its updates and its security updates."""
        parts = " ".join(components)
        lines = [f"deb [signed-by={KEYRING}] {self.main} {suite} {parts}"]
        if suite not in _ROLLING:
            lines.append(f"deb [signed-by={KEYRING}] {self.main} {suite}-updates {parts}")
            lines.append(f"deb [signed-by={KEYRING}] {self.security} {suite}-security {parts}")
        for archive in self.extra:
            if suite in archive.suites:
                own = " ".join(archive.components)
                lines.append(f"deb [signed-by={archive.keyring}] {archive.base} {suite} {own}")
        return "\n".join(lines) + "\n"


def refuse_misnamed(mirrors: Mirrors, origins: Iterable[tuple[str, str]]) -> None:
    """`origins` are base URLs and what the Release files there call themselves. Debian's packages are told from others
    by that name (apt_preferences(5)), so it must be theirs alone. Raises MirrorUnknown."""
    for base, origin in origins:
        beside = mirrors.vendor(base.rstrip("/")) is not None
        if beside == (origin == "Debian"):
            raise MirrorUnknown(
                f"the archive {base} calls itself {origin!r}; "
                + ("that is Debian's name" if beside else "where there are archives beside it, it must be 'Debian'"),
                hint="see GOLDSMITH_EXTRA_ARCHIVES and docs/archives.md",
            )


def find_mirrors(main: str | None, security: str | None, extra: tuple[ExtraArchive, ...] = ()) -> Mirrors:
    """Settings first; what they leave open is asked of the host's apt. Raises MirrorUnknown."""
    if main is None or security is None:
        own = _hosts_own()
        main = main or own.get("Debian")
        security = security or own.get("Debian-Security")
    if main is None or security is None:
        raise MirrorUnknown(
            "this host's apt has no Debian archive to take as a default",
            hint="set GOLDSMITH_DEBIAN_MIRROR and GOLDSMITH_DEBIAN_SECURITY_MIRROR",
        )
    found = Mirrors(main.rstrip("/"), security.rstrip("/"), extra)
    for archive in extra:
        if archive.base in (found.main, found.security):
            raise MirrorUnknown(
                f"{archive.base} is Debian's archive here, and an archive beside it",
                hint="see GOLDSMITH_EXTRA_ARCHIVES",
            )
    return found


def _hosts_own() -> dict[str, str]:
    try:
        done = run(
            ["apt-get", "indextargets", "--format", "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)", "Created-By: Packages"],
            timeout=60,
        )
    except ProgramMissing:
        return {}
    found: dict[str, str] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        origin, label, uri = line.split("\t")
        if origin == "Debian":
            found.setdefault(label, uri)
    return found
