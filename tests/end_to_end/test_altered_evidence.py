"""One released image, its evidence altered in every way that matters: each is refused for the part that was altered."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable

import pytest

from builder.cli.main import main
from builder.signing.identity import ClientCredentials
from builder.signing.signer import Signer
from tests.end_to_end import altered_bundles, altered_records
from tests.end_to_end.alterations import TABLE, WHOLE, Forger
from tests.end_to_end.world import Goldsmith, Released
from tests.integration.sandbox_server import running_sandbox
from tests.unit.evidence_archives import read_members, write_members

# Each adds its own to the table.
assert altered_bundles
assert altered_records

Verified = tuple[int, dict[str, list[str]]]


@pytest.fixture(scope="module")
def members(goldsmith: Goldsmith, web: Released, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("released") / "evidence.tar"
    goldsmith.run("bundle", web.digest, "-o", str(path))
    return read_members(path)


@pytest.fixture(scope="module")
def verify(
    goldsmith: Goldsmith, members: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[dict[str, bytes]], Verified]:
    """Exit code, and what failed; by a policy that expects all that there is, offline."""
    directory = tmp_path_factory.mktemp("verifier")
    (directory / "trusted_root.json").write_bytes(members["trusted_root.json"])
    spec = {
        "trustedRoot": "trusted_root.json",
        "signers": [{"identity": goldsmith.client["identity"], "issuer": goldsmith.client["issuer"]}],
        "ledgerKeys": [goldsmith.client["ledgerKey"]],
        "builders": ["https://goldsmith.invalid/builder/*"],
        "buildTypes": ["urn:goldsmith:*"],
        "recipes": ["web"],
        "require": ["all"],
        "allowSandbox": True,
    }
    head = {"apiVersion": "goldsmith/v1", "kind": "VerificationPolicy", "metadata": {"name": "all"}}
    policy, nobody = directory / "policy.yaml", directory / "nobody.json"
    policy.write_text(json.dumps({**head, "spec": spec}))
    nobody.write_text('{"url": "http://127.0.0.1:9"}')
    nobody.chmod(0o600)

    def verified(content: dict[str, bytes]) -> Verified:
        path = write_members(directory / "evidence.tar", content)
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            arguments = ["--offline", "--policy", str(policy), "--config", str(nobody), "--json"]
            code = main(["verify", str(path), *arguments])
        told = json.loads(out.getvalue())
        if "problem" in told:
            return code, {WHOLE: [told["problem"]["detail"]]}
        failed: dict[str, list[str]] = {}
        for one in told["checks"]:
            if not one["passed"]:
                failed.setdefault(one["name"], []).append(one["detail"])
        return code, failed

    return verified


@pytest.fixture(scope="module")
def forge(
    goldsmith: Goldsmith, members: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, bytes]]:
    """What is left of the evidence after an alteration of the table."""
    state, url = goldsmith.stack.sigstore_state, f"{goldsmith.stack.sigstore_url}/oidc/token"
    trust = state / "client_trust_config.json"
    service = Signer(trust, ClientCredentials(url, "goldsmith", state / "client_secret"), time_limit=20.0)
    stranger = Signer(trust, ClientCredentials(url, "rebuilder", state / "rebuilder_secret"), time_limit=20.0)

    def altered(name: str) -> dict[str, bytes]:
        with contextlib.ExitStack() as stack:
            foreign = service
            if "another sigstore" in name:
                foreign = stack.enter_context(running_sandbox(tmp_path_factory.mktemp("foreign"))).signer()
            forger = Forger(dict(members), service, stranger, foreign)
            TABLE[name][0](forger)
        assert forger.members != members
        return forger.members

    return altered


def test_what_was_released_passes_every_check(
    members: dict[str, bytes], verify: Callable[[dict[str, bytes]], Verified]
) -> None:
    assert verify(members) == (0, {})


@pytest.mark.parametrize("name", TABLE)
def test_what_is_altered_is_refused(
    forge: Callable[[str], dict[str, bytes]], verify: Callable[[dict[str, bytes]], Verified], name: str
) -> None:
    _, check, why = TABLE[name]
    code, failed = verify(forge(name))
    assert code == 2
    assert any(why in detail for detail in failed.get(check, [])), failed
