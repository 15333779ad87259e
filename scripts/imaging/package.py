"""Goldsmith as a Debian package: its code, and the libraries of requirements.lock as they are for the images' Python.

Everything lies below /usr/lib/goldsmith, and a `.pth` file puts that on Python's path; nothing is compiled, so that the
same inputs give the same bytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from builder import __version__

ROOT = Path(__file__).resolve().parents[2]
HOME = "usr/lib/goldsmith"
# Debian 13's Python, and the oldest C libraries that wheels may be made for (PEP 600).
_PYTHON = (3, 13)
_GLIBC = ("2_41", "2_36", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17", "2_12", "2_5")
_PLATFORMS = (*(f"manylinux_{version}_x86_64" for version in _GLIBC), "manylinux2014_x86_64", "manylinux1_x86_64")

_CONTROL = """\
Package: goldsmith
Version: {version}
Architecture: amd64
Maintainer: The Goldsmith developers <goldsmith@localhost>
Installed-Size: {kilobytes}
Depends: python3-minimal (>= {first}~), python3-minimal (<< {after}), libpython3-stdlib, ca-certificates
Section: admin
Priority: optional
Description: golden image build pipeline
 Builds, scans, signs and records container images that can be rebuilt bit for bit.
"""
_COMMAND = """\
#!/usr/bin/python3 -P
from builder.cli.main import main

raise SystemExit(main())
"""


def make_package(directory: Path) -> Path:
    """Write goldsmith_VERSION_amd64.deb into `directory`. Raises CalledProcessError, with pip's or dpkg's output."""
    epoch = _git("log", "-1", "--format=%ct").strip()
    env = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory(prefix="goldsmith-package-") as work:
        root, wheels = Path(work, "root"), Path(work, "wheels")
        home = root / HOME
        _pip(env, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, _sources(Path(work, "sources")))
        _pip(env, *_for_images(home), "--require-hashes", "--requirement", ROOT / "requirements.lock")
        # By name: of a file pip would note down the path.
        _pip(env, *_for_images(home), "--no-index", "--find-links", wheels, f"goldsmith=={__version__}")
        _write(root / "usr/lib/python3/dist-packages/goldsmith.pth", f"/{HOME}\n")
        _write(root / "usr/bin/goldsmith", _COMMAND, 0o755)
        (root / "usr/bin/trivy").symlink_to(f"/{HOME}/bin/trivy")
        for command in sorted((home / "bin").iterdir()):
            if command.name != "trivy":  # scripts that name the Python of this machine
                command.unlink()
        _write(root / "DEBIAN/control", _control(root))
        made = directory / f"goldsmith_{__version__}_amd64.deb"
        subprocess.run(
            ["dpkg-deb", "--build", "--root-owner-group", "-Zzstd", "-z5", root, made],
            check=True, capture_output=True, env=env,
        )  # fmt: skip
    return made


def _sources(directory: Path) -> Path:
    """What is versioned, and nothing that lies about."""
    for name in _git("ls-files", "-z", "builder", "workers", "pyproject.toml", "README.md").split("\0"):
        if name and (ROOT / name).exists():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    return directory


def _for_images(target: Path) -> Sequence[str | Path]:
    platforms = [f"--platform={name}" for name in _PLATFORMS]
    abis = [f"--abi={name}" for name in (f"cp{_PYTHON[0]}{_PYTHON[1]}", "abi3", "none")]
    return [
        "install", "--no-deps", "--no-compile", "--only-binary=:all:", f"--python-version={_PYTHON[0]}.{_PYTHON[1]}",
        "--implementation=cp", *abis, *platforms, "--target", target,
    ]  # fmt: skip


def _control(root: Path) -> str:
    size = sum(path.lstat().st_size for path in root.rglob("*"))
    first, after = (f"{_PYTHON[0]}.{_PYTHON[1] + step}" for step in (0, 1))
    return _CONTROL.format(version=__version__, kilobytes=size // 1024, first=first, after=after)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _pip(env: dict[str, str], *arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, capture_output=True, env=env)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout
