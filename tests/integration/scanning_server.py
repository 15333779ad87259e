"""What the scanning tests scan and where it lies: a real registry on loopback and small images made by hand."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

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
            "var/lib/dpkg/status": "".join(_stanza(*package) for package in self.packages).encode(),
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


def _stanza(binary: str, source: str, version: str) -> str:
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
