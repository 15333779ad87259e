"""The issuer gives tokens to its client alone, and the authority believes no token but the issuer's own."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import urlencode

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sigstore.oidc import IdentityToken

from builder.sandbox.keys import Key
from builder.sandbox.oidc import CLIENT_ID, CLIENT_IDENTITY, Issuer, TokenRefused

URL = "http://127.0.0.1:8790"
SECRET = "a secret: with % and +"
ISSUER = Issuer(URL, Key.generate(), SECRET)


def form(**fields: str) -> bytes:
    return urlencode({"grant_type": "client_credentials", **fields}).encode()


def basic(client: str, secret: str) -> str:
    encoded = urlencode({"": client})[1:] + ":" + urlencode({"": secret})[1:]
    return "Basic " + base64.b64encode(encoded.encode()).decode()


def claims(**changed: object) -> dict[str, object]:
    now = int(time.time())
    usual = {"iss": URL, "sub": "someone", "aud": "sigstore", "iat": now, "nbf": now, "exp": now + 60}
    return {name: value for name, value in {**usual, **changed}.items() if value is not None}


def signed(payload: dict[str, object], key: Key = ISSUER.key) -> str:
    return jwt.encode(payload, key.private, algorithm="ES256")


@pytest.mark.parametrize(
    ("body", "authorization"),
    [(form(client_id=CLIENT_ID, client_secret=SECRET), None), (form(), basic(CLIENT_ID, SECRET))],
    ids=["in the form", "in the header"],
)
def test_the_client_gets_a_token_that_sigstore_and_the_authority_accept(body: bytes, authorization: str | None) -> None:
    granted = ISSUER.grant(body, authorization)
    assert IdentityToken(granted.access_token).identity == CLIENT_IDENTITY
    verified = ISSUER.verify(granted.access_token)
    assert (verified.sub, verified.iss) == (CLIENT_IDENTITY, URL)


@pytest.mark.parametrize(
    ("body", "authorization", "code"),
    [
        (form(client_id=CLIENT_ID, client_secret="wrong"), None, "invalid_client"),
        (form(client_id="other", client_secret=SECRET), None, "invalid_client"),
        (form(), basic(CLIENT_ID, ""), "invalid_client"),
        (form(), "Basic not-base64!", "invalid_client"),
        (form(), None, "invalid_client"),
        (b"grant_type=password", basic(CLIENT_ID, SECRET), "unsupported_grant_type"),
        (b"\xff\xfe", None, "unsupported_grant_type"),
    ],
)
def test_anybody_else_gets_none(body: bytes, authorization: str | None, code: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        ISSUER.grant(body, authorization)
    assert caught.value.code == code
    assert SECRET not in str(caught.value)


def test_the_published_key_verifies_the_tokens() -> None:
    (published,) = ISSUER.key_set()["keys"]
    token = ISSUER.grant(form(client_id=CLIENT_ID, client_secret=SECRET), None).access_token
    assert jwt.get_unverified_header(token)["kid"] == published["kid"]
    assert "d" not in published
    assert jwt.decode(token, jwt.PyJWK(published), audience="sigstore")["sub"] == CLIENT_IDENTITY


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": int(time.time()) - 1},
        {"nbf": int(time.time()) + 600},
        {"aud": "another"},
        {"aud": ["another"]},
        {"iss": "http://127.0.0.1:1"},
        {"sub": None},
        {"aud": None},
        {"iss": None},
        {"exp": None},
        {"iat": None},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_or_missing_claim_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(TokenRefused, match="identity token is not accepted"):
        ISSUER.verify(signed(claims(**changed)))


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(TokenRefused):
        ISSUER.verify(signed(claims(), Key.generate()))


def test_a_token_that_names_no_algorithm_is_refused() -> None:
    with pytest.raises(TokenRefused):
        ISSUER.verify(jwt.encode(claims(), None, algorithm="none"))


def test_a_token_keyed_with_the_public_key_is_refused() -> None:
    def part(content: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    unsigned = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims())}"
    hmac = jwt.get_algorithm_by_name("HS256")
    signature = hmac.sign(unsigned.encode(), ISSUER.key.spki)
    with pytest.raises(TokenRefused):
        ISSUER.verify(f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")


@given(st.text(max_size=200))
def test_no_text_is_taken_for_a_token(text: str) -> None:
    with pytest.raises(TokenRefused):
        ISSUER.verify(text)
