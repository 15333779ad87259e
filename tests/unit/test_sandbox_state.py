"""The state directory keeps its secrets, serves one sandbox at a time, and is the same after a restart."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from sigstore.models import ClientTrustConfig, TrustedRoot

from builder.sandbox.__main__ import SandboxExposed, main, require_loopback
from builder.sandbox.keys import SandboxStateInvalid
from builder.sandbox.state import SandboxBusy, State

URL = "http://127.0.0.1:8790"
SECRETS = {"client_secret": "goldsmith", "rebuilder_secret": "rebuilder"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_and_secrets_are_for_their_owner_alone(tmp_path: Path) -> None:
    with State(tmp_path / "state", URL):
        assert mode(tmp_path / "state" / "private") == 0o700
        private = list((tmp_path / "state" / "private").iterdir())
        assert len(private) == 5
        secrets = [tmp_path / "state" / name for name in SECRETS]
        assert {mode(path) for path in [*private, *secrets]} == {0o600}


def test_the_root_key_is_nowhere(tmp_path: Path) -> None:
    with State(tmp_path / "state", URL) as state:
        names = {path.name for path in (tmp_path / "state" / "private").iterdir()}
        assert names == {"authority.pem", "chain.pem", "ct.pem", "oidc.pem", "rekor.pem"}
        assert state.keys.authority.root.public_key() != state.keys.authority.key.private.public_key()


def test_a_restart_keeps_keys_secrets_and_log(tmp_path: Path) -> None:
    with State(tmp_path / "state", URL) as state:
        state.log.append(b"entry")
        before = (
            state.keys.rekor.spki,
            state.keys.authority.chain_pem(),
            state.issuer.secrets,
            state.log.root(2),
        )
    with State(tmp_path / "state", URL) as state:
        after = (state.keys.rekor.spki, state.keys.authority.chain_pem(), state.issuer.secrets, state.log.root(2))
    assert before == after


def test_at_another_address_it_is_the_same_instance(tmp_path: Path) -> None:
    with State(tmp_path / "state", URL):
        before = TrustedRoot.from_file(str(tmp_path / "state" / "trusted_root.json")).get_fulcio_certs()
    with State(tmp_path / "state", "http://sandbox:9000/"):
        config = ClientTrustConfig.from_json((tmp_path / "state" / "client_trust_config.json").read_text())
    assert config.trusted_root.get_fulcio_certs() == before
    assert config.signing_config.get_fulcio().url == "http://sandbox:9000"


@pytest.mark.parametrize(("name", "client"), SECRETS.items())
def test_a_missing_secret_is_made_anew_and_the_other_stays(tmp_path: Path, name: str, client: str) -> None:
    with State(tmp_path, URL) as state:
        before = state.issuer.secrets
    (tmp_path / name).unlink()
    with State(tmp_path, URL) as state:
        after = state.issuer.secrets
    assert {each for each in after if after[each] != before[each]} == {client}
    assert len(after[client]) > 40
    assert mode(tmp_path / name) == 0o600
    assert (tmp_path / name).read_text() == after[client]


def test_every_client_has_a_secret_of_its_own(tmp_path: Path) -> None:
    with State(tmp_path, URL) as state:
        assert set(state.issuer.secrets) == {"goldsmith", "rebuilder"}
        assert len(set(state.issuer.secrets.values())) == 2
        for secret in state.issuer.secrets.values():
            assert secret not in repr(state.issuer)


def test_a_second_sandbox_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with State(tmp_path, URL), pytest.raises(SandboxBusy, match="held by another sandbox"), State(tmp_path, URL):
        pass
    with State(tmp_path, URL) as state:
        assert state.log.size == 1


def test_an_interrupted_first_start_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "private.new").mkdir()
    (tmp_path / "private.new" / "ct.pem").write_text("half a key")
    with State(tmp_path, URL):
        assert not (tmp_path / "private.new").exists()


def test_a_key_others_can_read_is_not_used(tmp_path: Path) -> None:
    with State(tmp_path, URL):
        pass
    key = tmp_path / "private" / "authority.pem"
    key.chmod(0o640)
    with pytest.raises(SandboxStateInvalid, match="can be read by others"), State(tmp_path, URL):
        pass
    key.chmod(0o600)
    with State(tmp_path, URL) as state:
        assert state.log.size == 1


@pytest.mark.parametrize("name", ["authority.pem", "chain.pem", "ct.pem"])
def test_a_damaged_key_is_named(tmp_path: Path, name: str) -> None:
    with State(tmp_path, URL):
        pass
    (tmp_path / "private" / name).write_text("damaged")
    with pytest.raises(SandboxStateInvalid, match=name), State(tmp_path, URL):
        pass


def test_a_chain_of_another_authority_is_not_used(tmp_path: Path) -> None:
    with State(tmp_path / "one", URL), State(tmp_path / "two", URL):
        foreign = (tmp_path / "two" / "private" / "chain.pem").read_bytes()
    (tmp_path / "one" / "private" / "chain.pem").write_bytes(foreign)
    with pytest.raises(SandboxStateInvalid, match="does not belong"), State(tmp_path / "one", URL):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_it_listens_on_this_machine(host: str) -> None:
    require_loopback(host, allow_remote=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "10.0.0.1", "sandbox", ""])
def test_it_listens_for_others_only_when_told_so(host: str) -> None:
    with pytest.raises(SandboxExposed, match="not for production"):
        require_loopback(host, allow_remote=False)
    require_loopback(host, allow_remote=True)


def test_a_refused_start_says_why_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--state", str(tmp_path / "state"), "--port", "1", "--host", "0.0.0.0"]) == 1
    assert "--allow-remote" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
