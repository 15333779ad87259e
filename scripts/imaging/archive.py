"""A signed Debian archive of a few packages, in a directory that any web server can serve."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

_COMPONENT = "main"
# Lies in the key's home once there is a key.
_MADE = "made"


def write_archive(directory: Path, packages: Iterable[Path], *, suite: str, origin: str, gnupg: Path) -> Path:
    """Make `directory` the archive of `packages` alone; answers its keyring, which lies beside `dists/`.

    `gnupg` is the home of the key that signs, made where there is none, and used again where there is.
    """
    shutil.rmtree(directory, ignore_errors=True)
    stanzas: dict[str, list[str]] = {}
    for package in packages:
        name, architecture = (_field(package, field) for field in ("Package", "Architecture"))
        path = Path("pool", _COMPONENT, name[0], name, package.name)
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package, target)
        stanzas.setdefault(architecture, []).append(_stanza(package, path))
    release = _Release(directory / "dists" / suite, suite, origin, time.time())
    for architecture, found in stanzas.items():
        release.add(f"{_COMPONENT}/binary-{architecture}/Packages", "\n".join(found).encode())
    return release.sign(sorted(stanzas), gnupg, directory / "keyring.gpg")


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """A web server of a directory, on loopback: its base URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Release:
    """A Release file (Debian's repository format): each index by its sha256."""

    def __init__(self, directory: Path, suite: str, origin: str, now: float) -> None:
        self._directory, self._suite, self._origin, self._now = directory, suite, origin, now
        self._indexes: list[str] = []

    def add(self, name: str, content: bytes) -> None:
        file = self._directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self._indexes.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}")

    def sign(self, architectures: list[str], gnupg: Path, keyring: Path) -> Path:
        text = "\n".join(
            [
                f"Origin: {self._origin}",
                f"Label: {self._origin}",
                f"Suite: {self._suite}",
                f"Codename: {self._suite}",
                f"Date: {formatdate(self._now, usegmt=True)}",
                f"Architectures: {' '.join(architectures)}",
                f"Components: {_COMPONENT}",
                "SHA256:",
                *self._indexes,
                "",
            ]
        )
        try:
            if not (gnupg / _MADE).exists():
                gnupg.mkdir(mode=0o700, parents=True, exist_ok=True)
                _gpg(gnupg, "--quick-generate-key", f"{self._origin} archive", "ed25519", "sign", "never")
                (gnupg / _MADE).touch()
            signed = self._directory / "InRelease"
            _gpg(gnupg, "--output", str(signed), "--clearsign", "--digest-algo", "SHA256", text=text)
            _gpg(gnupg, "--output", str(keyring), "--export")
        finally:
            # gpg starts an agent for each home, which stays.
            subprocess.run(["gpgconf", "--homedir", gnupg, "--kill", "all"], check=False, capture_output=True)
        return keyring


def _stanza(package: Path, path: Path) -> str:
    control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
    with package.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{control.rstrip()}\nFilename: {path}\nSize: {package.stat().st_size}\nSHA256: {sha256}\n"


def _field(package: Path, name: str) -> str:
    done = subprocess.run(["dpkg-deb", "--field", package, name], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _gpg(home: Path, *arguments: str, text: str | None = None) -> None:
    subprocess.run(
        ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback",
         *arguments],
        input=text, text=True, check=True, capture_output=True,
    )  # fmt: skip
