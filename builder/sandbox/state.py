"""The sandbox's state directory: made on the first start, held by one process, published to clients as files.

private/                  mode 0700: the keys of the authority, the logs and the issuer, mode 0600
log.sqlite                the transparency log
client_secret             what the client "goldsmith" proves; mode 0600; delete it and restart to get another
rebuilder_secret          the same for the client "rebuilder"
trusted_root.json         what verifiers read
client_trust_config.json  what signers read
chain.pem, rekor.pub, ctfe.pub   the same trust in the forms cosign reads
lock                      held while a sandbox runs
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509

from builder.errors import Unavailable
from builder.private import write_private
from builder.sandbox.certificates import Authority, create_authority
from builder.sandbox.keys import Key, unusable
from builder.sandbox.log import Log
from builder.sandbox.oidc import CLIENT_ID, REBUILDER_ID, Issuer
from builder.sandbox.trust import client_trust_config, document, trusted_root

_CHAIN = "chain.pem"
_SECRETS = {CLIENT_ID: "client_secret", REBUILDER_ID: "rebuilder_secret"}


class SandboxBusy(Unavailable):
    slug = "sandbox-busy"
    title = "Another sandbox uses this state directory"
    status = 409


@dataclass(frozen=True)
class Keys:
    """What the sandbox signs with: certificates, certificate timestamps, log entries, tokens."""

    authority: Authority
    ct: Key
    rekor: Key
    oidc: Key

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Keys that `create` made. Raises SandboxStateInvalid."""
        path = directory / _CHAIN
        try:
            certificate, root = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            raise unusable(path, "cannot be read as an authority's two certificates") from error
        authority = Authority(Key.load(directory / "authority.pem"), certificate, root)
        if authority.certificate.public_key() != authority.key.private.public_key():
            raise unusable(path, "does not belong to the authority.pem beside it")
        ct, rekor, oidc = (Key.load(directory / f"{role}.pem") for role in ("ct", "rekor", "oidc"))
        return cls(authority, ct, rekor, oidc)

    @classmethod
    def create(cls, directory: Path) -> Self:
        """New keys in a new directory."""
        # Written aside and renamed: an interrupted first start must not leave half a set of keys.
        fresh = directory.with_name(f"{directory.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        keys = cls(create_authority(), Key.generate(), Key.generate(), Key.generate())
        keys.authority.key.save(fresh / "authority.pem")
        write_private(fresh / _CHAIN, keys.authority.chain_pem())
        for role, key in (("ct", keys.ct), ("rekor", keys.rekor), ("oidc", keys.oidc)):
            key.save(fresh / f"{role}.pem")
        fresh.rename(directory)
        return keys


class State:
    """An open state directory: `keys`, `log` and `issuer`. Raises SandboxBusy or SandboxStateInvalid on entering.

    `url` is where clients reach the sandbox. It is the issuer's name in certificates, and may change between starts:
    what was signed before still verifies, since trust hangs on keys.
    """

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url.rstrip("/")

    def __enter__(self) -> Self:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(self.directory, f"cannot be used: {error.strerror}", hint="choose another one") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise SandboxBusy(
                f"{self.directory} is held by another sandbox", hint="stop it, or use another state directory"
            ) from error
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.log.close()
        os.close(self._lock)

    def _open(self) -> None:
        private = self.directory / "private"
        self.keys = Keys.load(private) if private.exists() else Keys.create(private)
        known = {client: self._secret(file) for client, file in _SECRETS.items()}
        self.issuer = Issuer(self.url, self.keys.oidc, known)
        self._publish()
        self.log = Log.open(self.directory / "log.sqlite", self.keys.rekor, urlsplit(self.url).hostname or "sandbox")

    def _secret(self, name: str) -> str:
        file = self.directory / name
        if not file.exists():
            write_private(file, secrets.token_urlsafe(32).encode())
        return file.read_text().strip()

    def _publish(self) -> None:
        authority, ct, rekor = self.keys.authority, self.keys.ct, self.keys.rekor
        files = {
            "trusted_root.json": document(trusted_root(self.url, authority, ct, rekor)),
            "client_trust_config.json": document(client_trust_config(self.url, authority, ct, rekor)),
            _CHAIN: authority.chain_pem(),
            "rekor.pub": rekor.public_pem,
            "ctfe.pub": ct.public_pem,
        }
        for name, content in files.items():
            # Replaced in one step: a client may be reading at this moment.
            fresh = self.directory / f"{name}.new"
            fresh.write_bytes(content)
            fresh.replace(self.directory / name)
