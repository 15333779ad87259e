"""A registry that is not on loopback: TLS, a login, and no way around either.

The registry is real. Only the name is made up: `registry.test` is answered with a loopback address.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from builder.image.documents import CONFIG, Descriptor, Manifest
from builder.private import write_private
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.credentials import DockerConfig, GivenCredentials
from builder.registry.errors import RegistryRefused, RegistryUnavailable
from builder.registry.reference import Repository
from tests.integration.registry_server import free_port

NAME = "registry.test"
USER, PASSWORD = "pusher", "s3cret-of-the-test"
# PASSWORD by bcrypt, which is all that this registry takes.
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuujsWknM8pfBPdRxoOJt8hu.sWw2vTXTq"

_CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {work}/storage}}}}
auth: {{htpasswd: {{realm: test, path: {work}/htpasswd}}}}
http: {{addr: "127.0.0.1:{port}", tls: {{certificate: {work}/cert.pem, key: {work}/key.pem}}}}
"""


@dataclass(frozen=True)
class TlsRegistry:
    host: str
    ca_file: Path


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsRegistry]:
    _certificate(tmp_path)
    (tmp_path / "htpasswd").write_text(HTPASSWD + "\n")
    port = free_port()
    (tmp_path / "config.yml").write_text(_CONFIG.format(work=tmp_path, port=port))
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **named: Any) -> Any:
        return real("127.0.0.1" if host in (NAME, NAME.encode()) else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", tmp_path / "config.yml"], stdout=log, stderr=log)
        try:
            _wait(port, server, tmp_path / "log")
            yield TlsRegistry(f"{NAME}:{port}", tmp_path / "cert.pem")
        finally:
            server.terminate()
            server.wait(10)


def client(registry: TlsRegistry, tmp_path: Path, **access: Any) -> RegistryClient:
    access = {"ca_file": registry.ca_file, "attempts": 1, **access}
    return RegistryClient(Access(**access), lock_directory=tmp_path / "locks")


def push(client: RegistryClient, host: str) -> str:
    repository = Repository(host, "golden/small")
    config = client.blobs.push_bytes(repository, b"{}", CONFIG)
    layer = client.blobs.push_bytes(repository, b"layer", "application/vnd.oci.image.layer.v1.tar")
    manifest = Manifest(config=Descriptor(media_type=CONFIG, digest=config.digest, size=config.size), layers=(layer,))
    return client.manifests.put(repository.tagged("1"), manifest.to_bytes()).digest


def test_pushes_over_tls_with_credentials_from_settings(registry: TlsRegistry, tmp_path: Path) -> None:
    given = GivenCredentials(registry.host, USER, PASSWORD)
    with client(registry, tmp_path, credentials=given) as registered:
        digest = push(registered, registry.host)
        assert registered.manifests.get(Repository(registry.host, "golden/small").tagged("1")).digest == digest


def test_pushes_with_credentials_from_dockers_configuration(registry: TlsRegistry, tmp_path: Path) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    write_private(tmp_path / "config.json", json.dumps({"auths": {registry.host: {"auth": auth}}}).encode())
    with client(registry, tmp_path, credentials=DockerConfig(tmp_path / "config.json")) as registered:
        assert push(registered, registry.host).startswith("sha256:")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_missing_or_wrong_login_is_refused_without_showing_it(
    registry: TlsRegistry, tmp_path: Path, password: str | None
) -> None:
    given = {"credentials": GivenCredentials(registry.host, USER, password)} if password else {}
    with client(registry, tmp_path, **given) as stranger, pytest.raises(RegistryRefused) as refused:
        push(stranger, registry.host)
    assert NAME in refused.value.detail
    assert "wrong" not in str(refused.value)


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(registry: TlsRegistry, tmp_path: Path) -> None:
    given = GivenCredentials(registry.host, USER, PASSWORD)
    careful = client(registry, tmp_path, ca_file=None, credentials=given)
    with careful, pytest.raises(RegistryUnavailable) as refused:
        push(careful, registry.host)
    assert "certificate" in str(refused.value).lower()


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for _ in range(100):
        assert server.poll() is None, log.read_text()
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as raw, context.wrap_socket(raw):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())


def _certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
