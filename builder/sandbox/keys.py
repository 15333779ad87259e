"""The sandbox's private keys: P-256, each in a file that only its owner can read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from builder.errors import Broken
from builder.private import open_to_others, write_private


class SandboxStateInvalid(Broken):
    slug = "sandbox-state-invalid"
    title = "The sandbox's state directory cannot be used"


@dataclass(frozen=True)
class Key:
    """A P-256 private key and the forms its public half is known by."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def generate(cls) -> Self:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, path: Path) -> Self:
        """A key that `save` wrote. Raises SandboxStateInvalid, also when others can read the file."""
        try:
            mode = open_to_others(path)
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise unusable(path, "cannot be read as a private key") from error
        if mode:
            raise unusable(path, f"can be read by others (mode {mode})", hint=f"chmod 600 {path}")
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise unusable(path, "is not a P-256 key")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write a new file, PKCS #8 in PEM."""
        pem = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(path, pem)

    @property
    def spki(self) -> bytes:
        """The public key as DER SubjectPublicKeyInfo (RFC 5280, section 4.1)."""
        return self._public(serialization.Encoding.DER)

    @property
    def public_pem(self) -> bytes:
        return self._public(serialization.Encoding.PEM)

    @property
    def log_id(self) -> bytes:
        """SHA-256 of the public key: how RFC 6962, section 3.2, names a log."""
        return hashlib.sha256(self.spki).digest()

    def sign(self, data: bytes) -> bytes:
        """ECDSA over SHA-256, as DER."""
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))

    def _public(self, encoding: serialization.Encoding) -> bytes:
        return self.private.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def unusable(path: Path, why: str, hint: str = "start the sandbox with a new, empty directory") -> SandboxStateInvalid:
    return SandboxStateInvalid(f"{path} {why}", hint=hint)
