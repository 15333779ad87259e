"""Package URLs, as far as an exception's scope needs them: which packages does one name?

Form and rules follow the package-url specification, PURL-SPECIFICATION.rst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

_LOWER_CASE = frozenset({"deb", "github", "pypi", "oci", "apk", "composer"})


@dataclass(frozen=True)
class PackageUrl:
    """`version` is None where any is meant. `qualifiers` hold lower-case keys."""

    type: str
    namespace: str
    name: str
    version: str | None
    qualifiers: frozenset[tuple[str, str]]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        scheme, _, rest = text.partition(":")
        rest, _, _ = rest.partition("#")
        path, _, query = rest.partition("?")
        kind, _, path = path.lstrip("/").partition("/")
        namespace, _, last = path.strip("/").rpartition("/")
        # A scope of npm may stand there with a plain @, which begins no version.
        name, at, version = last.rpartition("@") if "@" in last[1:] else (last, "", "")
        if scheme.lower() != "pkg" or not kind or not name or (at and not version):
            raise ValueError(f"{text[:200]!r} is no package URL: pkg:TYPE/NAMESPACE/NAME@VERSION")
        kind, namespace, name = kind.lower(), unquote(namespace), unquote(name)
        if kind in _LOWER_CASE:
            namespace, name = namespace.lower(), name.lower()
        if kind == "pypi":
            name = name.replace("_", "-")
        pairs = (pair.partition("=") for pair in query.split("&") if pair)
        return cls(
            type=kind,
            namespace=namespace,
            name=name,
            version=unquote(version) or None,
            qualifiers=frozenset((key.lower(), unquote(value)) for key, _, value in pairs if value),
        )

    def names(self, other: PackageUrl) -> bool:
        """Whether what `other` names exactly is among what this one names: what is left out here may be anything."""
        return (
            (self.type, self.namespace, self.name) == (other.type, other.namespace, other.name)
            and self.version in (None, other.version)
            and self.qualifiers <= other.qualifiers
        )

    def of_source(self, name: str) -> PackageUrl:
        """The package that another was built from, in the same version, as Debian's purls name source packages."""
        without = frozenset(pair for pair in self.qualifiers if pair[0] != "arch")
        return PackageUrl(self.type, self.namespace, name.lower(), self.version, without | {("arch", "source")})
