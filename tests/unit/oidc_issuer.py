"""A real issuer of tokens on a loopback port, as a CI system's: discovery, keys that rotate, and tokens of any form."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "https://goldsmith.example"
SUBJECT = "repo:acme/web:ref:refs/heads/main"
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass
class SigningKey:
    kid: str
    private: Private
    algorithm: str = "RS256"

    def jwk(self) -> dict[str, Any]:
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            found: Any = RSAAlgorithm.to_jwk(public, as_dict=True)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            found = ECAlgorithm.to_jwk(public, as_dict=True)
        else:
            found = OKPAlgorithm.to_jwk(public, as_dict=True)
        return {**found, "kid": self.kid, "use": "sig", "alg": self.algorithm}


def rsa_key(kid: str = "one", bits: int = 2048) -> SigningKey:
    return SigningKey(kid, rsa.generate_private_key(65537, bits))


@dataclass
class Issuer:
    """`asked` are the paths that were asked for; `documents` are answered instead of what is usual."""

    url: str = ""
    keys: list[SigningKey] = field(default_factory=lambda: [rsa_key()])
    asked: list[str] = field(default_factory=list)
    documents: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def claims(self, **changed: object) -> dict[str, object]:
        now = int(time.time())
        usual = {
            "iss": self.url, "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 300,
            "repository": "acme/web", "ref": "refs/heads/main", "sha": "5c" * 20, "run_id": "42",
        }  # fmt: skip
        return {name: value for name, value in {**usual, **changed}.items() if value is not None}

    def token(self, key: SigningKey | None = None, header: dict[str, Any] | None = None, **changed: object) -> str:
        key = key or self.keys[0]
        headers = {name: value for name, value in {"kid": key.kid, **(header or {})}.items() if value is not None}
        return jwt.encode(self.claims(**changed), key.private, key.algorithm, headers)

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if path in self.documents:
            return self.documents[path]
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        if path == "/keys":
            return 200, json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()
        return 404, b""


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = issuer.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 302:
                self.send_header("Location", content.decode())
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()


def issuers_file(url: str, *, rules: list[dict[str, Any]] | None = None, **changed: Any) -> str:
    rules = rules or [
        {
            "claims": {"repository": "acme/web", "ref": "refs/heads/main"},
            "scopes": ["builds:write", "builds:read"],
            "recipes": ["web"],
        },
        {"claims": {"repository": "acme/*"}, "scopes": ["builds:read"]},
    ]
    one = {"name": "ci", "issuer": url, "audience": AUDIENCE, "algorithms": ["RS256", "ES256", "EdDSA"], "rules": rules}
    return json.dumps({"apiVersion": "goldsmith/v1", "kind": "Issuers", "issuers": [{**one, **changed}]})
