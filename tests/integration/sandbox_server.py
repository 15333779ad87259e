"""A real sandbox Sigstore in its own process, on a free loopback port, for tests that sign."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt

from builder.sandbox.keys import Key
from builder.sandbox.oidc import CLIENT_ID, CLIENT_IDENTITY, REBUILDER_ID
from builder.signing.identity import ClientCredentials
from builder.signing.signer import Signer
from builder.signing.slsa import BuildDefinition, Builder, Provenance, RunDetails
from builder.signing.statement import SLSA_PROVENANCE, Subject
from builder.signing.verification import VerifiedStatement, verify_bundle

START_SECONDS = 20.0

# Something to sign.
DIGEST = "sha256:" + "5a" * 32
STATEMENT = Provenance(
    build_definition=BuildDefinition(build_type="https://goldsmith.example/build/v1", external_parameters={"n": 1}),
    run_details=RunDetails(builder=Builder(id="https://goldsmith.example/builder")),
).statement(Subject.of("registry.example/web", DIGEST))


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox: where it is, and the files it publishes."""

    url: str
    state: Path
    pid: int

    @property
    def trusted_root(self) -> Path:
        return self.state / "trusted_root.json"

    @property
    def client_trust_config(self) -> Path:
        return self.state / "client_trust_config.json"

    @property
    def identity(self) -> str:
        return CLIENT_IDENTITY

    @property
    def issuer(self) -> str:
        return self.url

    def credentials(self, client: str = CLIENT_ID, secret: str = "client_secret") -> ClientCredentials:
        return ClientCredentials(f"{self.url}/oidc/token", client, self.state / secret)

    def signer(self, time_limit: float = 20.0) -> Signer:
        return Signer(self.client_trust_config, self.credentials(), time_limit=time_limit)

    def rebuilder(self) -> Signer:
        """Signs as the second client."""
        return Signer(self.client_trust_config, self.credentials(REBUILDER_ID, "rebuilder_secret"), time_limit=20.0)

    def token(self, key: Key | None = None, **changed: object) -> str:
        """A token like the sandbox's own, with other claims or another key."""
        now = int(time.time())
        usual = {"iss": self.issuer, "sub": self.identity, "aud": "sigstore", "iat": now, "exp": now + 60}
        private = (key or Key.load(self.state / "private" / "oidc.pem")).private
        return jwt.encode({**usual, **changed}, private, algorithm="ES256")

    def verify(self, bundle: bytes, **changed: Any) -> VerifiedStatement:
        """Verify a bundle over STATEMENT, with other expectations where `changed` says so."""
        expected: dict[str, Any] = {
            "trusted_root": self.trusted_root,
            "identity": self.identity,
            "issuer": self.issuer,
            "digest": DIGEST,
            "predicate_type": SLSA_PROVENANCE,
        }
        return verify_bundle(bundle, **{**expected, **changed})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_sandbox(state: Path, port: int | None = None) -> Iterator[Sandbox]:
    """Start `python -m builder.sandbox` over a state directory; ended on leaving, by its process id."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "builder.sandbox", "--state", str(state), "--port", str(port)]
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _wait(url, child)
        yield Sandbox(url, state, child.pid)
    finally:
        child.terminate()
        child.communicate(timeout=10)


def _wait(url: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            _, said = child.communicate()
            raise RuntimeError(f"the sandbox ended with {child.returncode}: {said.decode()}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/healthz", trust_env=False, timeout=1).status_code == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the sandbox did not answer within {START_SECONDS:g} seconds")
