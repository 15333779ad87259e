"""What the signer signs through a real sandbox verifies, here and with other people's tools; nothing else does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from builder.errors import GoldsmithError
from builder.private import write_private
from builder.sandbox.keys import Key
from builder.signing.identity import (
    ClientCredentials,
    IdentityRefused,
    IdentityUnavailable,
    TokenFile,
)
from builder.signing.signer import SignedBundle, Signer, SignerUnavailable, SigningFailed
from builder.signing.statement import COSIGN_SIGNATURE, SLSA_PROVENANCE, Statement, Subject
from builder.signing.trust import TrustInvalid
from tests.integration.sandbox_server import DIGEST, STATEMENT, Sandbox, free_port, running_sandbox

Bundle = dict[str, Any]


@pytest.fixture(scope="module")
def signed(sandbox: Sandbox) -> SignedBundle:
    return sandbox.signer().sign(STATEMENT)


# Signing


def test_a_signed_statement_verifies_offline_and_says_who_and_when(sandbox: Sandbox, signed: SignedBundle) -> None:
    verified = sandbox.verify(signed.bundle)
    assert verified.statement == STATEMENT
    assert (verified.identity, verified.issuer) == (sandbox.identity, sandbox.issuer)
    assert (signed.identity, signed.issuer) == (sandbox.identity, sandbox.issuer)
    assert verified.log_index == signed.log_index >= 1
    assert verified.integrated_time == signed.integrated_time
    assert verified.integrated_time is not None
    assert abs((datetime.now(UTC) - verified.integrated_time).total_seconds()) < 120
    assert verified.sandbox
    assert signed.sandbox


def test_one_signer_signs_a_whole_release_with_one_certificate(sandbox: Sandbox) -> None:
    signer = sandbox.signer()
    statements = [Statement.signature("registry.example/web", DIGEST), STATEMENT]
    bundles = [signer.sign(statement) for statement in statements]
    assert [bundle.predicate_type for bundle in bundles] == [COSIGN_SIGNATURE, SLSA_PROVENANCE]
    certificates = {json.loads(each.bundle)["verificationMaterial"]["certificate"]["rawBytes"] for each in bundles}
    assert len(certificates) == 1
    assert bundles[1].log_index == bundles[0].log_index + 1


def test_several_statements_are_signed_side_by_side_with_one_certificate(sandbox: Sandbox) -> None:
    kinds = [f"https://example.com/kind/{number}" for number in range(5)]
    statements = [Statement(subject=STATEMENT.subject, predicateType=kind, predicate={"n": 1}) for kind in kinds]
    bundles = sandbox.signer().sign_all(statements)
    assert [bundle.predicate_type for bundle in bundles] == kinds
    assert len({json.loads(one.bundle)["verificationMaterial"]["certificate"]["rawBytes"] for one in bundles}) == 1
    assert len({one.log_index for one in bundles}) == len(kinds)
    for statement, bundle in zip(statements, bundles, strict=True):
        assert sandbox.verify(bundle.bundle, predicate_type=bundle.predicate_type).statement == statement


def test_bundles_verify_after_the_sandbox_moved_to_another_port(tmp_path: Path) -> None:
    with running_sandbox(tmp_path / "state") as before:
        bundle = before.signer().sign(STATEMENT).bundle
    with running_sandbox(tmp_path / "state") as after:
        assert after.url != before.url
        verified = after.verify(bundle, issuer=before.issuer)
        assert after.signer().sign(STATEMENT).log_index == verified.log_index + 1


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert sandbox.signer().sign(STATEMENT).log_index >= 1


def test_a_large_inventory_can_be_signed(sandbox: Sandbox) -> None:
    files = {f"/usr/share/doc/package-{number}/copyright": f"{number:064x}" for number in range(10_000)}
    inventory = Statement(
        subject=(Subject.of("web", DIGEST),), predicateType="https://example.com/inventory", predicate={"files": files}
    )
    bundle = sandbox.signer().sign(inventory).bundle
    assert sandbox.verify(bundle, predicate_type="https://example.com/inventory").statement == inventory


# Other people's verifiers


def sigstore(
    sandbox: Sandbox, bundle: bytes, directory: Path, identity: str, digest: str
) -> subprocess.CompletedProcess[str]:
    (directory / "bundle.json").write_bytes(bundle)
    argv = [sys.executable, "-m", "sigstore", "--trust-config", str(sandbox.client_trust_config), "verify", "identity"]
    argv += ["--offline", "--bundle", str(directory / "bundle.json"), "--cert-identity", identity]
    argv += ["--cert-oidc-issuer", sandbox.issuer, digest]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_the_sigstore_command_line_verifies_it(sandbox: Sandbox, signed: SignedBundle, tmp_path: Path) -> None:
    ended = sigstore(sandbox, signed.bundle, tmp_path, sandbox.identity, DIGEST)
    assert ended.returncode == 0, ended.stderr
    assert "OK" in ended.stderr + ended.stdout


@pytest.mark.parametrize("wrong", ["identity", "digest"])
def test_the_sigstore_command_line_refuses_what_is_wrong(
    sandbox: Sandbox, signed: SignedBundle, tmp_path: Path, wrong: str
) -> None:
    identity = "https://sandbox.invalid/other" if wrong == "identity" else sandbox.identity
    digest = "sha256:" + "00" * 32 if wrong == "digest" else DIGEST
    assert sigstore(sandbox, signed.bundle, tmp_path, identity, digest).returncode != 0


# Services that are not there, or not themselves


def config_with(sandbox: Sandbox, directory: Path, change: Callable[[Bundle], None]) -> Path:
    config = json.loads(sandbox.client_trust_config.read_text())
    change(config)
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return path


def signer_at(sandbox: Sandbox, directory: Path, service: str, url: str, time_limit: float) -> Signer:
    def change(config: Bundle) -> None:
        config["signingConfig"][service][0]["url"] = url

    return Signer(config_with(sandbox, directory, change), sandbox.credentials(), time_limit=time_limit)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def dripping() -> Iterator[str]:
    """A server that never falls silent for long, and never comes to an end."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not stop.wait(0.1):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    def accept(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stop.set()


@pytest.mark.parametrize("service", ["caUrls", "rekorTlogUrls"])
def test_a_dead_service_is_named(sandbox: Sandbox, tmp_path: Path, service: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SignerUnavailable, match=url) as caught:
        signer_at(sandbox, tmp_path, service, url, 10).sign(STATEMENT)
    assert caught.value.retryable


@pytest.mark.parametrize("behaviour", ["silent", "dripping"])
@pytest.mark.parametrize("service", ["caUrls", "rekorTlogUrls"])
def test_a_service_that_never_answers_is_given_up_in_time(
    sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest, service: str, behaviour: str
) -> None:
    signer = signer_at(sandbox, tmp_path, service, request.getfixturevalue(behaviour), 1.0)
    started = time.monotonic()
    with pytest.raises(SignerUnavailable):
        signer.sign(STATEMENT)
    assert time.monotonic() - started < 3


def test_a_token_endpoint_that_never_answers_is_given_up_in_time(sandbox: Sandbox, silent: str) -> None:
    source = ClientCredentials(f"{silent}/oidc/token", "goldsmith", sandbox.state / "client_secret", timeout=0.5)
    started = time.monotonic()
    with pytest.raises(IdentityUnavailable, match="no answer in time"):
        Signer(sandbox.client_trust_config, source).sign(STATEMENT)
    assert time.monotonic() - started < 3


def test_a_signer_recovers_when_the_service_does(sandbox: Sandbox, tmp_path: Path) -> None:
    state, port = tmp_path / "state", free_port()
    with running_sandbox(state, port) as running:
        signer = running.signer()
        first = signer.sign(STATEMENT)
    with pytest.raises(SignerUnavailable):
        signer.sign(STATEMENT)
    with running_sandbox(state, port):
        assert signer.sign(STATEMENT).log_index == first.log_index + 1


def test_a_log_with_another_key_is_found_out_before_anything_is_published(
    sandbox: Sandbox, foreign: Sandbox, tmp_path: Path
) -> None:
    def change(config: Bundle) -> None:
        config["trustedRoot"]["tlogs"] = json.loads(foreign.trusted_root.read_text())["tlogs"]

    signer = Signer(config_with(sandbox, tmp_path, change), sandbox.credentials())
    with pytest.raises(SigningFailed, match="does not verify"):
        signer.sign(STATEMENT)


def test_an_authority_that_is_not_the_trusted_one_is_found_out(
    sandbox: Sandbox, foreign: Sandbox, tmp_path: Path
) -> None:
    def change(config: Bundle) -> None:
        config["trustedRoot"] = json.loads(foreign.trusted_root.read_text())

    signer = Signer(config_with(sandbox, tmp_path, change), sandbox.credentials())
    with pytest.raises(SigningFailed, match="SCT"):
        signer.sign(STATEMENT)


def test_a_log_of_another_instance_takes_no_entry_of_ours(sandbox: Sandbox, foreign: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SigningFailed, match="not a certificate of this sandbox"):
        signer_at(sandbox, tmp_path, "rekorTlogUrls", foreign.url, 10).sign(STATEMENT)


# Identities that are not accepted


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"aud": "another"}, IdentityRefused),
        ({"key": Key.generate()}, IdentityRefused),
        # Another one, or another clock, may do: these are worth another try.
        ({"exp": int(time.time()) - 60}, IdentityUnavailable),
        ({"iat": int(time.time()) + 3600, "exp": int(time.time()) + 3900}, IdentityUnavailable),
    ],
    ids=["audience", "key", "expired", "not yet"],
)
def test_a_signer_with_a_refused_token_says_so_without_showing_it(
    sandbox: Sandbox, tmp_path: Path, claims: dict[str, Any], told: type[GoldsmithError]
) -> None:
    refused = sandbox.token(**claims)
    (tmp_path / "token").write_text(refused)
    with pytest.raises(told) as caught:
        Signer(sandbox.client_trust_config, TokenFile(tmp_path / "token")).sign(STATEMENT)
    assert not any(part in str(caught.value) for part in refused.split("."))


def test_a_client_with_the_wrong_secret_is_told_so(sandbox: Sandbox, tmp_path: Path) -> None:
    write_private(tmp_path / "secret", b"canary-secret")
    source = ClientCredentials(f"{sandbox.url}/oidc/token", "goldsmith", tmp_path / "secret")
    with pytest.raises(IdentityRefused, match="invalid_client") as caught:
        Signer(sandbox.client_trust_config, source).sign(STATEMENT)
    assert "canary-secret" not in str(caught.value)


def test_a_trust_configuration_that_cannot_be_used_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrustInvalid, match=r"config\.json") as caught:
        Signer(tmp_path / "config.json", sandbox.credentials()).sign(STATEMENT)
    assert isinstance(caught.value, GoldsmithError)
