"""The software bill of materials of Goldsmith itself: what a lock names, as CycloneDX 1.6 in JSON.

Names, versions, hashes and who needs whom are the lock's; licences are what the installed packages say of themselves.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parents[1]
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;\\]+)")


@dataclass
class Pinned:
    """One requirement of a lock: a digest for each file that an installer may take, and the names of its `via`.
    `asked_for`: requirements.in has it, for our own sake."""

    name: str
    version: str
    sha256: list[str] = field(default_factory=list)
    needed_by: list[str] = field(default_factory=list)
    asked_for: bool = False


def read_lock(text: str) -> list[Pinned]:
    """Raises ValueError for a line that is none of a lock's."""
    found: list[Pinned] = []
    for number, line in enumerate(text.splitlines(), 1):
        if pinned := _PINNED.match(line):
            found.append(Pinned(pinned[1], pinned[2]))
        elif hashed := re.match(r"\s+--hash=sha256:([0-9a-f]{64})", line):
            found[-1].sha256.append(hashed[1])
        elif via := re.match(r"\s+#(?: via)?\s*(.*)", line):
            found[-1].asked_for |= via[1].startswith("-r ")
            found[-1].needed_by += [via[1]] if via[1] and not via[1].startswith("-r ") else []
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"line {number}: {line[:80]!r} is no requirement with a version and hashes")
    return found


def bill(pinned: list[Pinned], version: str) -> str:
    """The document."""
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, "\n".join(sorted(h for one in pinned for h in one.sha256))))
    own = Component(name="goldsmith", version=version, type=ComponentType.APPLICATION, bom_ref="goldsmith")
    bom.metadata.component = own
    components = {one.name: _component(one) for one in pinned}
    needs: dict[str, list[Component]] = {}
    for one in pinned:
        bom.components.add(components[one.name])
        for other in one.needed_by:
            needs.setdefault(other, []).append(components[one.name])
    bom.register_dependency(own, [components[one.name] for one in pinned if one.asked_for])
    for name, component in components.items():
        bom.register_dependency(component, needs.get(name, []))
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _component(one: Pinned) -> Component:
    purl = PackageURL("pypi", name=re.sub(r"[-_.]+", "-", one.name).lower(), version=one.version)
    return Component(
        name=one.name,
        version=one.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=str(purl),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content) for content in one.sha256],
        licenses=_licences(one),
    )


def _licences(one: Pinned) -> list[License]:
    try:
        about = metadata.metadata(one.name)
    except metadata.PackageNotFoundError:  # for another Python or another system
        return []
    factory = LicenseFactory()
    if "License-Expression" in about:
        return [factory.make_from_string(about["License-Expression"])]
    told = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or [] if line.startswith("License ::")]
    return [factory.make_with_name(name) for name in told]


def main(locks: list[str]) -> None:
    text = "\n".join(Path(lock).read_text("utf-8") for lock in locks or [str(ROOT / "requirements.lock")])
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    sys.stdout.write(bill(read_lock(text), version))


if __name__ == "__main__":
    main(sys.argv[1:])
