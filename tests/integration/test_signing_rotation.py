"""Keys of a Sigstore change: what was signed before still verifies, what the old keys sign later does not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from builder.signing.signer import SignedBundle, Signer
from builder.signing.verification import VerificationFailed
from tests.integration.sandbox_server import DIGEST, STATEMENT, Sandbox

_KEYS = ("tlogs", "ctlogs", "certificateAuthorities")


def configuration(sandbox: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sandbox.client_trust_config.read_text())
    return found


def ended(sandbox: Sandbox, end: datetime) -> dict[str, Any]:
    """The instance's configuration, with an end to each of its keys."""
    config = configuration(sandbox)
    for kind in _KEYS:
        for key in config["trustedRoot"][kind]:
            key.get("publicKey", key)["validFor"]["end"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    return config


def rotated(old: Sandbox, new: Sandbox, end: datetime) -> dict[str, Any]:
    """The new instance's configuration, which still trusts the old keys for what they signed up to `end`."""
    before, after = ended(old, end), configuration(new)
    for kind in _KEYS:
        after["trustedRoot"][kind] = before["trustedRoot"][kind] + after["trustedRoot"][kind]
    return after


def written(directory: Path, config: dict[str, Any]) -> tuple[Path, Path]:
    """The client's trust configuration and the trusted root in it, as files."""
    client, root = directory / "client_trust_config.json", directory / "trusted_root.json"
    client.write_text(json.dumps(config))
    root.write_text(json.dumps(config["trustedRoot"]))
    return client, root


@pytest.fixture(scope="module")
def before(sandbox: Sandbox) -> SignedBundle:
    """Signed before anything changed."""
    return sandbox.signer().sign(STATEMENT)


@pytest.fixture(scope="module")
def rotation(
    sandbox: Sandbox, foreign: Sandbox, before: SignedBundle, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    del before  # it is from before the end
    time.sleep(1.1)
    end = datetime.now(UTC).replace(microsecond=0)
    return written(tmp_path_factory.mktemp("rotated"), rotated(sandbox, foreign, end))


def sigstore(config: Path, bundle: bytes, issuer: str, identity: str, directory: Path) -> int:
    file = directory / "bundle.json"
    file.write_bytes(bundle)
    return subprocess.run(
        [
            Path(sys.executable).parent / "sigstore", "--trust-config", config, "verify", "identity", "--offline",
            "--bundle", file, "--cert-identity", identity, "--cert-oidc-issuer", issuer, DIGEST,
        ],
        capture_output=True, check=False,
    ).returncode  # fmt: skip


def test_what_was_signed_before_a_rotation_still_verifies(
    sandbox: Sandbox, before: SignedBundle, rotation: tuple[Path, Path], tmp_path: Path
) -> None:
    client, root = rotation
    assert sandbox.verify(before.bundle, trusted_root=root).statement == STATEMENT
    assert sigstore(client, before.bundle, sandbox.issuer, sandbox.identity, tmp_path) == 0


def test_what_is_signed_with_the_new_configuration_verifies_beside_it(
    sandbox: Sandbox, foreign: Sandbox, rotation: tuple[Path, Path], tmp_path: Path
) -> None:
    client, root = rotation
    signed = Signer(client, foreign.credentials(), time_limit=20.0).sign(STATEMENT)
    assert foreign.verify(signed.bundle, trusted_root=root).issuer == foreign.issuer
    assert sigstore(client, signed.bundle, foreign.issuer, foreign.identity, tmp_path) == 0
    with pytest.raises(VerificationFailed):
        sandbox.verify(signed.bundle, issuer=foreign.issuer)  # who never heard of the rotation does not believe it


def test_what_the_old_keys_sign_after_their_end_is_refused(sandbox: Sandbox, rotation: tuple[Path, Path]) -> None:
    time.sleep(1.1)
    late = sandbox.signer().sign(STATEMENT)
    with pytest.raises(VerificationFailed):
        sandbox.verify(late.bundle, trusted_root=rotation[1])


def test_keys_that_had_ended_before_it_was_signed_prove_nothing(
    sandbox: Sandbox, before: SignedBundle, tmp_path: Path
) -> None:
    _, root = written(tmp_path, ended(sandbox, datetime.now(UTC) - timedelta(hours=1)))
    with pytest.raises(VerificationFailed, match="the trusted root has no key of a transparency log that was valid at"):
        sandbox.verify(before.bundle, trusted_root=root)


def test_a_root_without_the_old_keys_no_longer_believes_them(
    sandbox: Sandbox, foreign: Sandbox, before: SignedBundle
) -> None:
    with pytest.raises(VerificationFailed):
        sandbox.verify(before.bundle, trusted_root=foreign.trusted_root)
