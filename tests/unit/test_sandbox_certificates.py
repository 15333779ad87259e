"""A certificate of the sandbox is what Sigstore's verifiers expect, and says that it is a sandbox's."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from sigstore._internal.sct import verify_sct
from sigstore._internal.trust import KeyringPurpose
from sigstore.errors import VerificationError
from sigstore.models import ClientTrustConfig, TrustedRoot
from sigstore.verify.policy import Identity, OIDCIssuerV2

from builder.sandbox.certificates import create_authority
from builder.sandbox.keys import Key
from builder.sandbox.marking import ORGANISATION, is_sandbox, issued_by_sandbox
from builder.sandbox.trust import client_trust_config, document, trusted_root

URL = "http://127.0.0.1:8790"
AUTHORITY = create_authority()
CT, REKOR, LEAF_KEY = Key.generate(), Key.generate(), Key.generate()


def issue(identity: str, issuer: str = URL) -> x509.Certificate:
    return AUTHORITY.issue(LEAF_KEY.private.public_key(), identity=identity, issuer=issuer, ct=CT)


@pytest.fixture
def root(tmp_path: Path) -> TrustedRoot:
    path = tmp_path / "trusted_root.json"
    path.write_bytes(document(trusted_root(URL, AUTHORITY, CT, REKOR)))
    return TrustedRoot.from_file(str(path))


@pytest.mark.parametrize("identity", ["https://sandbox.invalid/goldsmith", "someone@example.com"])
@pytest.mark.parametrize("issuer", [URL, "https://issuer.example/" + "a" * 200])
def test_identity_and_issuer_are_in_the_certificate(identity: str, issuer: str) -> None:
    certificate = issue(identity, issuer)
    Identity(identity=identity, issuer=issuer).verify(certificate)
    OIDCIssuerV2(issuer).verify(certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert not list(certificate.subject)


def test_a_certificate_lives_for_ten_minutes() -> None:
    certificate = issue("someone@example.com")
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(minutes=10)


def test_the_embedded_timestamp_verifies_with_the_log_key_alone(root: TrustedRoot) -> None:
    certificate = issue("someone@example.com")
    verify_sct(certificate, [AUTHORITY.certificate, AUTHORITY.root], root.ct_keyring(KeyringPurpose.VERIFY))
    foreign = AUTHORITY.issue(
        LEAF_KEY.private.public_key(), identity="someone@example.com", issuer=URL, ct=Key.generate()
    )
    with pytest.raises(VerificationError):
        verify_sct(foreign, [AUTHORITY.certificate, AUTHORITY.root], root.ct_keyring(KeyringPurpose.VERIFY))


def test_every_certificate_says_that_it_is_a_sandbox_s(root: TrustedRoot) -> None:
    for certificate in (AUTHORITY.root, AUTHORITY.certificate, issue("someone@example.com")):
        (organisation,) = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        assert organisation.value == ORGANISATION == "Goldsmith sandbox (not for production)"
        assert issued_by_sandbox(certificate)
    assert is_sandbox(root)


def test_another_authority_is_not_taken_for_a_sandbox(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "example.com")])
    sandbox = AUTHORITY.root
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(sandbox.not_valid_before_utc)
        .not_valid_after(sandbox.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    content = trusted_root(URL, AUTHORITY, CT, REKOR)
    authorities = content["certificateAuthorities"]
    assert isinstance(authorities, list)
    assert isinstance(authorities[0], dict)
    raw = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    authorities[0]["certChain"] = {"certificates": [{"rawBytes": raw}]}
    path = tmp_path / "root.json"
    path.write_bytes(document(content))
    assert not is_sandbox(TrustedRoot.from_file(str(path)))
    assert not issued_by_sandbox(certificate)


def test_signers_find_the_authority_and_the_log_in_the_client_trust_config() -> None:
    config = ClientTrustConfig.from_json(document(client_trust_config(URL, AUTHORITY, CT, REKOR)).decode())
    assert config.signing_config.get_fulcio().url == URL
    assert len(config.signing_config.get_tlogs()) == 1
    assert config.signing_config.get_tsas() == []
    assert is_sandbox(config.trusted_root)
