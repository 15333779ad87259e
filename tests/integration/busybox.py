"""A tiny image for tests of the engine: Debian's static busybox, fetched by our own planner, and two account files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from builder.engine.docker import Limits
from builder.planning.apt import AptArchive
from builder.planning.debs import DebStore
from builder.planning.mirrors import find_mirrors
from builder.process import run

# Of a container to attack.
LIMITS = Limits(memory_bytes=128 << 20, cpus=1.0, processes=64, disk_bytes=48 << 20)
ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}


def busybox_root(directory: Path) -> Path:
    """A tar of a root file system that has busybox, for the host's own architecture."""
    architecture = run(["dpkg", "--print-architecture"], timeout=10).stdout.decode().strip()
    debs = DebStore(directory / "debs")
    archive = AptArchive(
        directory / "apt",
        mirrors=find_mirrors(None, None),
        suite="trixie",
        components=["main"],
        architecture=architecture,
        debs=debs,
        index_seconds=3600,
    )
    archive.refresh()
    package = next(one for one in archive.resolve(["busybox-static"]).packages if one.name == "busybox-static")
    run(["dpkg-deb", "--extract", debs.verified(package), directory / "package"], timeout=60)
    program = directory / "package/usr/bin/busybox"
    applets = run([program, "--list"], timeout=10).stdout.decode().split()
    with tarfile.open(directory / "root.tar", "w") as tar:
        for name in ("bin", "etc", "proc", "run", "tmp", "var"):
            tar.addfile(_header(name, tarfile.DIRTYPE, 0o755))
        header = _header("bin/busybox", tarfile.REGTYPE, 0o755)
        header.size = program.stat().st_size
        with program.open("rb") as stream:
            tar.addfile(header, stream)
        for applet in sorted(set(applets) - {"busybox"}):
            link = _header(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            tar.addfile(link)
        for name, content in ACCOUNTS.items():
            header = _header(name, tarfile.REGTYPE, 0o644)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return directory / "root.tar"


def _header(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.mode = kind, mode
    return header
