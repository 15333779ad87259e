"""The issuer gives each client a token of its own, and the authority believes no token but the issuer's own."""

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
from builder.sandbox.oidc import (
    CLIENT_ID,
    CLIENT_IDENTITY,
    REBUILDER_ID,
    REBUILDER_IDENTITY,
    Issuer,
    TokenRefused,
)

URL = "http://127.0.0.1:8790"
SECRET = "a secret: with % and +"
REBUILDER_SECRET = "another secret"
ISSUER = Issuer(URL, Key.generate(), {CLIENT_ID: SECRET, REBUILDER_ID: REBUILDER_SECRET})


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
    ("client", "secret", "identity"),
    [(CLIENT_ID, SECRET, CLIENT_IDENTITY), (REBUILDER_ID, REBUILDER_SECRET, REBUILDER_IDENTITY)],
)
@pytest.mark.parametrize("in_header", [False, True])
def test_a_client_gets_a_token_of_its_own_that_sigstore_and_the_authority_accept(
    client: str, secret: str, identity: str, in_header: bool
) -> None:
    asked = (form(), basic(client, secret)) if in_header else (form(client_id=client, client_secret=secret), None)
    granted = ISSUER.grant(*asked)
    assert IdentityToken(granted.access_token).identity == identity
    verified = ISSUER.verify(granted.access_token)
    assert (verified.sub, verified.iss) == (identity, URL)


@pytest.mark.parametrize(("client", "secret"), [(CLIENT_ID, REBUILDER_SECRET), (REBUILDER_ID, SECRET)])
def test_no_client_gets_the_token_of_the_other(client: str, secret: str) -> None:
    for asked in [
        (form(client_id=client, client_secret=secret), None),
        (form(), basic(client, secret)),
        # What is wrong in the header is not made good by the form, nor the other way round.
        (form(client_id=client, client_secret=ISSUER.secrets[client]), basic(client, secret)),
    ]:
        with pytest.raises(TokenRefused, match="unknown client, or wrong secret"):
            ISSUER.grant(*asked)


def test_the_name_in_the_form_does_not_change_who_proved_a_secret() -> None:
    granted = ISSUER.grant(form(client_id=CLIENT_ID), basic(REBUILDER_ID, REBUILDER_SECRET))
    assert ISSUER.verify(granted.access_token).sub == REBUILDER_IDENTITY


def test_an_empty_secret_opens_nothing() -> None:
    empty = Issuer(URL, ISSUER.key, {CLIENT_ID: "", REBUILDER_ID: REBUILDER_SECRET})
    with pytest.raises(TokenRefused):
        empty.grant(form(), basic(CLIENT_ID, ""))


@pytest.mark.parametrize(
    ("body", "authorization", "code"),
    [
        (form(client_id=CLIENT_ID, client_secret="wrong"), None, "invalid_client"),
        (form(client_id="other", client_secret=SECRET), None, "invalid_client"),
        (form(), basic(CLIENT_ID, ""), "invalid_client"),
        (form(), basic("", ""), "invalid_client"),
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
        {"nbf": int(time.time()) + 86400},
        {"aud": "another"},
        {"aud": ["another"]},
        {"iss": "http://127.0.0.1:1"},
        {"sub": None},
        {"aud": None},
        {"iss": None},
        {"exp": None},
        {"iat": None},
    ],
    ids=[
        "expired", "not yet", "audience", "audiences", "issuer", "no sub", "no aud", "no iss", "no exp", "no iat",
    ],
)  # fmt: skip
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
