"""What the scanning tests scan and where it lies: a real registry on loopback and small images made by hand."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from builder.scanning.artifact import OciArtifact
from builder.scanning.binary import Trivy
from builder.scanning.database import ensure
from builder.scanning.sample.build import SampleDatabase, build_sample
from builder.scanning.sources import DirectorySource
from builder.scanning.trivy import Scanner

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Registry:
    """A running registry: `host` is `127.0.0.1:port`, to be spoken to in plain HTTP."""

    host: str
    login: tuple[str, str] | None = None

    def push_blob(self, repository: str, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        with httpx.Client(base_url=f"http://{self.host}", auth=self.login, timeout=30) as client:
            begun = client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
            place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
            client.put(place, content=data).raise_for_status()
        return digest

    def put_manifest(self, repository: str, name: str, body: bytes) -> str:
        with httpx.Client(base_url=f"http://{self.host}", auth=self.login, timeout=30) as client:
            client.put(
                f"/v2/{repository}/manifests/{name}", content=body, headers={"Content-Type": MANIFEST}
            ).raise_for_status()
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def push(self, repository: str, image: Image) -> str:
        """Push an image; returns its reference by digest."""
        layer = image.layer()
        config = image.configuration(layer)
        packed = gzip.compress(layer, mtime=0)
        for blob in (config, packed):
            self.push_blob(repository, blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
        }
        body = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.put_manifest(repository, digest, body)
        return f"{self.host}/{repository}@{digest}"


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


@dataclass(frozen=True)
class Image:
    """A one-layer image of Debian `release` with the dpkg packages `(binary, source, version)` and other files."""

    release: str = "12"
    packages: tuple[tuple[str, str, str], ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    environment: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    user: str = "65532"
    labels: Mapping[str, str] = field(default_factory=dict)

    def layer(self) -> bytes:
        files = {
            "etc/os-release": f'ID=debian\nVERSION_ID="{self.release}"\n'.encode(),
            "etc/debian_version": f"{self.release}.1\n".encode(),
            "var/lib/dpkg/status": "".join(stanza(*package) for package in self.packages).encode(),
            **self.files,
        }
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in sorted(files.items()):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o644
                tar.addfile(member, io.BytesIO(data))
        return buffer.getvalue()

    def configuration(self, layer: bytes) -> bytes:
        return json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": "2026-01-01T00:00:00Z",
                "config": {"Env": list(self.environment), "User": self.user, "Labels": dict(self.labels)},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
                "history": [
                    {"created": "2026-01-01T00:00:00Z", "created_by": line, "empty_layer": True}
                    for line in self.history
                ]
                + [{"created": "2026-01-01T00:00:00Z", "created_by": "goldsmith"}],
            }
        ).encode()


def stanza(binary: str, source: str, version: str) -> str:
    return (
        f"Package: {binary}\nStatus: install ok installed\nPriority: optional\nSection: libs\nInstalled-Size: 1\n"
        f"Maintainer: Nobody <nobody@example.org>\nArchitecture: amd64\nSource: {source}\nVersion: {version}\n"
        f"Description: {binary}\n\n"
    )


@contextlib.contextmanager
def registry(
    directory: Path, *, htpasswd: str | None = None, login: tuple[str, str] | None = None
) -> Iterator[Registry]:
    """Run Debian's `docker-registry` on a free loopback port and end it, by its process, afterwards."""
    directory.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    lines = [
        "version: 0.1",
        "log: {level: error}",
        f"storage: {{filesystem: {{rootdirectory: {directory / 'store'}}}}}",
        f"http: {{addr: '{host}'}}",
    ]
    if htpasswd is not None:
        (directory / "htpasswd").write_text(htpasswd)
        lines.append(f"auth: {{htpasswd: {{realm: staging, path: {directory / 'htpasswd'}}}}}")
    configuration = directory / "config.yml"
    configuration.write_text("\n".join(lines) + "\n")
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(configuration)], stdout=log, stderr=log)
        try:
            _wait_until_up(host, server)
            yield Registry(host, login)
        finally:
            server.terminate()
            server.wait(10)


def _wait_until_up(host: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        if server.poll() is not None:
            raise RuntimeError(f"the registry ended at once with exit code {server.returncode}")
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"http://{host}/v2/")
            return
        time.sleep(0.05)
    raise RuntimeError("the registry did not come up within five seconds")


TRIVY = Path(sys.executable).with_name("trivy")
DAY = timedelta(days=1)

# A key that opens nothing, a token that was never given out.
KEY_LINE = "MIIEowIBAAKCAQEAx0Q2v5m8Jd1kPzq9s7Yt3Lh4Vw6Rn8Bc2Xe5Ug1Ia9Ko3Mp7"
KEY = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *[KEY_LINE] * 10, "-----END RSA PRIVATE KEY-----", ""])
TOKEN = "ghp_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789"
NEIGHBOUR = "neighbour-of-a-secret"
IN_ENVIRONMENT = "value-in-the-environment"
IN_HISTORY = "value-in-the-history"
SECRET_VALUES = (KEY_LINE, TOKEN, NEIGHBOUR, IN_ENVIRONMENT, IN_HISTORY)

BOOKWORM = Image(
    packages=(
        ("openssl", "openssl", "3.0.11-1~deb12u1"),
        ("libssl3", "openssl", "3.0.11-1~deb12u1"),
        ("libc6", "glibc", "2.36-9+deb12u3"),
        ("tar", "tar", "1.34+dfsg-1.2+deb12u1"),
        ("hello", "hello", "2.10-3"),
    ),
    files={
        "opt/key.pem": KEY.encode(),
        "opt/settings": f"token={TOKEN}\nother={NEIGHBOUR}\n".encode(),
        "usr/lib/python3/dist-packages/urllib3-2.0.6.dist-info/METADATA": (
            b"Metadata-Version: 2.1\nName: urllib3\nVersion: 2.0.6\n"
        ),
    },
    environment=("PATH=/usr/bin", f"PASSWORD={IN_ENVIRONMENT}", f"GITHUB_TOKEN={TOKEN}"),
    history=(f"ENV DB_PASSWORD={IN_HISTORY}",),
    labels={"org.opencontainers.image.title": "app"},
)
CLEAN = Image(release="13", packages=(("openssl", "openssl", "3.5.9-1~deb13u1"), ("hello", "hello", "2.10-5")))


def sample(age: timedelta = timedelta(hours=1)) -> SampleDatabase:
    made = datetime.now(UTC) - age
    return build_sample(made, made + DAY)


def install(cache: Path, *, maximum_age: timedelta = 2 * DAY, age: timedelta = timedelta(hours=1)) -> None:
    offer = cache.with_name(f"{cache.name}-offer")
    sample(age).write(offer)
    ensure(Trivy(TRIVY), DirectorySource(offer), cache, maximum_age=maximum_age, timeout=30)


def scanner(cache: Path, *, binary: Path = TRIVY, timeout: float = 60) -> Scanner:
    return Scanner(Trivy(binary), cache, timeout=timeout, maximum_age=2 * DAY)


def push(server: Registry, repository: str, artifact: OciArtifact) -> None:
    for blob in artifact.blobs.values():
        server.push_blob(repository, blob)
    server.put_manifest(repository, artifact.tag, artifact.manifest)
