"""How anybody tells a sandbox from a real Sigstore: its name is in every certificate it issues."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID
from sigstore.models import TrustedRoot

ORGANISATION = "Goldsmith sandbox (not for production)"


def issued_by_sandbox(certificate: x509.Certificate) -> bool:
    """Whether a certificate names a sandbox as its issuer. Says nothing about trust: verify the certificate as well."""
    return any(
        name.value == ORGANISATION for name in certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    )


def is_sandbox(trusted_root: TrustedRoot) -> bool:
    """Whether any certificate authority of a trusted root is a sandbox's, so that trusting it trusts a sandbox."""
    return any(issued_by_sandbox(certificate) for certificate in trusted_root.get_fulcio_certs())
