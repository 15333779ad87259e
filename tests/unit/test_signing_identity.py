"""Every way to an identity either gives a token or says in words why it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.private import write_private
from builder.signing.identity import AmbientIdentity, ClientCredentials, IdentityUnavailable, TokenFile
from builder.signing.loopback import is_loopback


def test_a_token_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    source = TokenFile(path)
    for content in ("first", "second\n"):
        path.write_text(content)
        assert source.token() == content.strip()


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"], ids=["missing", "empty", "blank", "binary"])
def test_a_token_file_without_a_token_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IdentityUnavailable, match=str(path)):
        TokenFile(path).token()


def test_a_platform_without_identities_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "BUILDKITE", "GOOGLE_SERVICE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(IdentityUnavailable, match="gives its programs no identity"):
        AmbientIdentity().token()


def test_a_platform_that_withholds_its_identity_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", raising=False)
    with pytest.raises(IdentityUnavailable, match="insufficient OIDC token permissions"):
        AmbientIdentity().token()


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    source = ClientCredentials("http://127.0.0.1:9/token", "client", tmp_path / "secret")
    with pytest.raises(IdentityUnavailable, match=str(tmp_path / "secret")):
        source.token()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9/token", "not a url", "http://[::1"])
def test_an_endpoint_that_cannot_be_reached_is_named_and_the_secret_is_not(tmp_path: Path, endpoint: str) -> None:
    write_private(tmp_path / "secret", b"canary-secret")
    with pytest.raises(IdentityUnavailable) as caught:
        ClientCredentials(endpoint, "client", tmp_path / "secret", timeout=2).token()
    assert endpoint in str(caught.value)
    assert "canary-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:80/x", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:80", True),
        ("https://localhost", True),
        ("https://127.0.0.1.example.com", False),
        ("https://localhost.example.com", False),
        ("https://user:127.0.0.1@example.com", False),
        ("http://10.0.0.1", False),
        ("", False),
    ],
)
def test_only_this_machine_is_this_machine(url: str, local: bool) -> None:
    assert is_loopback(url) is local
