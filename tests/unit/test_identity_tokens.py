"""Tokens of a real issuer are accepted, and every attack on them that is known is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from builder.errors import SettingsInvalid
from builder.identity import keysets
from builder.identity.keysets import IssuerUnavailable
from builder.identity.tokens import MAX_TOKEN, TokenNotGranted, TokenRefused, Tokens
from builder.store.scopes import Scope
from tests.unit.oidc_issuer import AUDIENCE, SUBJECT, Issuer, SigningKey, issuers_file, rsa_key, running_issuer


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as found:
        yield found


@pytest.fixture
def tokens(issuer: Issuer, tmp_path: Path) -> Tokens:
    return trusting(tmp_path, issuers_file(issuer.url))


def trusting(directory: Path, content: str) -> Tokens:
    path = directory / "issuers.yaml"
    path.write_text(content)
    return Tokens(path)


def test_a_token_says_who_asks_and_what_for(issuer: Issuer, tokens: Tokens) -> None:
    bearer = tokens.verify(issuer.token())
    assert (bearer.name, bearer.issuer, bearer.subject) == (f"ci:{SUBJECT}", issuer.url, SUBJECT)
    assert bearer.granted.scopes == (Scope.BUILDS_WRITE, Scope.BUILDS_READ)
    assert bearer.granted.recipes == ("web",)
    assert bearer.claims == {
        "repository": "acme/web", "ref": "refs/heads/main", "sha": "5c" * 20, "run_id": "42",
    }  # fmt: skip


@pytest.mark.parametrize(
    "key",
    [
        SigningKey("ec", ec.generate_private_key(ec.SECP256R1()), "ES256"),
        SigningKey("ed", ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
    ids=["ES256", "EdDSA"],
)
def test_other_algorithms_that_the_operator_lists_do_too(issuer: Issuer, tokens: Tokens, key: SigningKey) -> None:
    issuer.keys.append(key)
    assert tokens.verify(issuer.token(key)).subject == SUBJECT


def test_the_first_rule_that_matches_decides(issuer: Issuer, tokens: Tokens) -> None:
    assert tokens.verify(issuer.token(ref="refs/heads/feature")).granted.scopes == (Scope.BUILDS_READ,)
    with pytest.raises(TokenNotGranted, match="no rule of the issuer 'ci' matches"):
        tokens.verify(issuer.token(repository="evil/web"))


@pytest.mark.parametrize(
    "repository", ["acme", "xacme/web", "ACME/web", "evil\nacme/web", ["evil/web"], {"acme/web": 1}, 7]
)
def test_a_claim_that_only_looks_alike_matches_nothing(issuer: Issuer, tokens: Tokens, repository: object) -> None:
    with pytest.raises(TokenNotGranted):
        tokens.verify(issuer.token(repository=repository))


# Attacks


def part(data: object) -> str:
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unsigned(issuer: Issuer, algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'kid': 'one'})}.{part(issuer.claims())}."


def confused(issuer: Issuer, secret: bytes) -> str:
    """Signed with HMAC, the public key as its secret."""
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'one'})}.{part(issuer.claims())}"
    return f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def public_pem(issuer: Issuer) -> bytes:
    return issuer.keys[0].private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def embedding(issuer: Issuer, name: str) -> str:
    """The attacker's own key, and a header that says to take it."""
    own = rsa_key()
    value = {"jwk": own.jwk(), "jku": f"{issuer.url}/evil", "x5u": f"{issuer.url}/evil"}[name]
    issuer.documents["/evil"] = (200, json.dumps({"keys": [own.jwk()]}).encode())
    return issuer.token(own, {name: value})


def altered(issuer: Issuer, **changed: object) -> str:
    header, _, signature = issuer.token().split(".")
    return f"{header}.{part(issuer.claims(**changed))}.{signature}"


def now() -> int:
    return int(time.time())


NOT_SIGNED = "is not RS256 or ES256 or EdDSA"
ATTACKS: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "none": (lambda issuer: unsigned(issuer, "none"), NOT_SIGNED),
    "None": (lambda issuer: unsigned(issuer, "None"), NOT_SIGNED),
    "no algorithm": (lambda issuer: f"{part({'kid': 'one'})}.{part(issuer.claims())}.", NOT_SIGNED),
    "key confusion, PEM": (lambda issuer: confused(issuer, public_pem(issuer)), NOT_SIGNED),
    "key confusion, JWK": (lambda issuer: confused(issuer, json.dumps(issuer.keys[0].jwk()).encode()), NOT_SIGNED),
    "key confusion, empty": (lambda issuer: confused(issuer, b""), NOT_SIGNED),
    "an algorithm not listed": (
        lambda issuer: issuer.token(SigningKey("one", issuer.keys[0].private, "RS512")),
        NOT_SIGNED,
    ),
    "embedded jwk": (lambda issuer: embedding(issuer, "jwk"), "signature does not verify"),
    "jku": (lambda issuer: embedding(issuer, "jku"), "signature does not verify"),
    "x5u": (lambda issuer: embedding(issuer, "x5u"), "signature does not verify"),
    "unknown kid": (lambda issuer: issuer.token(rsa_key("two")), "no key of its name"),
    "kid as a path": (lambda issuer: issuer.token(header={"kid": "../../../dev/null"}), "no key of its name"),
    "kid as SQL": (lambda issuer: issuer.token(header={"kid": "one' OR '1'='1"}), "no key of its name"),
    "another's key": (lambda issuer: issuer.token(rsa_key()), "signature does not verify"),
    "signature cut off": (lambda issuer: issuer.token().rpartition(".")[0] + ".", "signature does not verify"),
    "subject altered": (lambda issuer: altered(issuer, sub="repo:acme/web:ref:refs/heads/x"), "signature"),
    "expiry altered": (lambda issuer: altered(issuer, exp=now() + 9999), "signature"),
    "another audience": (lambda issuer: issuer.token(aud="https://other.example"), "another audience"),
    "audience in a list": (lambda issuer: issuer.token(aud=["https://other.example", AUDIENCE]), "another audience"),
    "audience as prefix": (lambda issuer: issuer.token(aud=AUDIENCE + "/x"), "another audience"),
    "no audience": (lambda issuer: issuer.token(aud=None), "lacks a claim: aud"),
    "another issuer": (lambda issuer: issuer.token(iss="https://evil.example"), "not one that this service trusts"),
    "issuer with a slash": (lambda issuer: issuer.token(iss=issuer.url + "/"), "not one that this service trusts"),
    "issuer in other case": (lambda issuer: issuer.token(iss=issuer.url.upper()), "not one that this service trusts"),
    "issuer in a list": (
        lambda issuer: f"{part({'alg': 'RS256', 'kid': 'one'})}.{part(issuer.claims(iss=[issuer.url]))}.AAAA",
        "not one that this service trusts",
    ),
    "no issuer": (lambda issuer: issuer.token(iss=None), "not one that this service trusts"),
    "expired": (lambda issuer: issuer.token(iat=now() - 900, exp=now() - 60), "has expired"),
    "not valid yet": (lambda issuer: issuer.token(nbf=now() + 300), "not valid yet"),
    "made tomorrow": (lambda issuer: issuer.token(iat=now() + 86400, exp=now() + 86500), "not valid yet"),
    "valid for years": (lambda issuer: issuer.token(exp=now() + 10**9), "more than a day"),
    "no expiry": (lambda issuer: issuer.token(exp=None), "lacks a claim: exp"),
    "no time of issue": (lambda issuer: issuer.token(iat=None), "lacks a claim: iat"),
    "no subject": (lambda issuer: issuer.token(sub=None), "lacks a claim: sub"),
    "an empty subject": (lambda issuer: issuer.token(sub=""), "its subject"),
    "a subject of two lines": (lambda issuer: issuer.token(sub="a\nb"), "its subject"),
    "a long subject": (lambda issuer: issuer.token(sub="x" * 256), "its subject"),
    "an extension": (lambda issuer: issuer.token(header={"crit": ["b64"], "b64": False}), "extension|no signed"),
    "oversized": (lambda issuer: issuer.token(filling="x" * MAX_TOKEN), "more than 16384 characters"),
    "no token": (lambda _: "a.b.c", "no signed JSON Web Token"),
    "not even parts": (lambda _: "..", "no signed JSON Web Token"),
    "nested deeply": (lambda _: f"{part({'alg': 'RS256'})}.{part(b'[' * 5000)}.AAAA", "no signed JSON Web Token"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_with_its_reason(issuer: Issuer, tokens: Tokens, attack: str) -> None:
    make, why = ATTACKS[attack]
    token = make(issuer)
    with pytest.raises(TokenRefused, match=why) as refused:
        tokens.verify(token)
    assert refused.value.status == 401
    assert all(piece not in str(refused.value) for piece in token.split(".") if len(piece) > 4)
    assert "/evil" not in issuer.asked


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_token_with_any_character_changed_is_refused_or_means_the_same(
    issuer: Issuer, tokens: Tokens, data: st.DataObject
) -> None:
    token = issuer.token()
    at = data.draw(st.integers(0, len(token) - 1))
    changed = token[:at] + data.draw(st.sampled_from("ABCDabcd0123-_.")) + token[at + 1 :]
    try:
        assert tokens.verify(changed).subject == SUBJECT
    except TokenRefused:
        return
    # The last character of a part in base64 has bits that mean nothing.
    assert jwt.decode(changed, options={"verify_signature": False}) == jwt.decode(
        token, options={"verify_signature": False}
    )


@pytest.mark.parametrize(
    ("key", "jwk"),
    [
        (rsa_key(bits=1024), {}),
        (rsa_key(), {"use": "enc"}),
        (rsa_key(), {"alg": "RS512"}),
        (rsa_key(), {"kty": "oct", "k": "c2VjcmV0"}),
        (SigningKey("one", ec.generate_private_key(ec.SECP384R1()), "ES384"), {"alg": "ES256"}),
    ],
    ids=["weak", "for encryption", "for another algorithm", "symmetric", "another curve"],
)
def test_a_key_that_must_not_verify_does_not(
    issuer: Issuer, tokens: Tokens, key: SigningKey, jwk: dict[str, Any]
) -> None:
    token = issuer.token(key)
    issuer.documents["/keys"] = (200, json.dumps({"keys": [{**key.jwk(), **jwk}]}).encode())
    with pytest.raises(TokenRefused):
        tokens.verify(token)


def test_a_token_of_one_trusted_issuer_is_none_of_another(issuer: Issuer, tmp_path: Path) -> None:
    with running_issuer() as other:
        both = json.loads(issuers_file(issuer.url))
        both["issuers"] += json.loads(issuers_file(other.url, name="other"))["issuers"]
        tokens = trusting(tmp_path, json.dumps(both))
        assert tokens.verify(other.token()).name == f"other:{SUBJECT}"
        with pytest.raises(TokenRefused, match="signature does not verify"):
            tokens.verify(other.token(iss=issuer.url))


# Keys


def test_keys_are_kept_and_a_new_one_is_found_when_it_is_used(
    issuer: Issuer, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        tokens.verify(issuer.token())
    assert issuer.asked.count("/keys") == 1
    issuer.keys = [rsa_key("two")]
    monkeypatch.setattr(keysets, "_PAUSE_SECONDS", 0.0)
    tokens.verify(issuer.token())
    assert issuer.asked.count("/keys") == 2
    with pytest.raises(TokenRefused, match="no key of its name"):
        tokens.verify(issuer.token(rsa_key("one")))


def test_unknown_names_of_keys_do_not_make_us_ask_each_time(issuer: Issuer, tokens: Tokens) -> None:
    tokens.verify(issuer.token())
    for number in range(20):
        with pytest.raises(TokenRefused):
            tokens.verify(issuer.token(header={"kid": f"guess-{number}"}))
    assert issuer.asked.count("/keys") == 1


def test_an_issuer_that_is_away_for_a_while_does_not_matter_and_for_a_day_does(
    issuer: Issuer, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.verify(issuer.token())
    issuer.documents["/.well-known/openid-configuration"] = (503, b"")
    monkeypatch.setattr(keysets, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(keysets, "_FRESH_SECONDS", 0.0)
    tokens.verify(issuer.token())
    monkeypatch.setattr(keysets, "_STALE_SECONDS", 0.0)
    with pytest.raises(IssuerUnavailable, match="answered 503"):
        tokens.verify(issuer.token())


@pytest.mark.parametrize(
    ("path", "answer", "why"),
    [
        ("/.well-known/openid-configuration", (200, b'{"issuer": "https://evil.example"}'), "another issuer"),
        ("/.well-known/openid-configuration", (200, b"[" * 100_000), "not JSON"),
        ("/.well-known/openid-configuration", (200, b"[]"), "no JSON object"),
        ("/.well-known/openid-configuration", (302, b"http://127.0.0.1:9/"), "answered 302"),
        ("/keys", (404, b""), "answered 404"),
        ("/keys", (200, b'{"keys": 1}'), "no set of keys"),
        ("/keys", (200, b" " * 600_000), "sends too much"),
    ],
)
def test_an_issuer_that_answers_rubbish_lets_nobody_in(
    issuer: Issuer, tokens: Tokens, path: str, answer: tuple[int, bytes], why: str
) -> None:
    issuer.documents[path] = answer
    with pytest.raises(IssuerUnavailable, match=why):
        tokens.verify(issuer.token())


def test_keys_over_plain_http_from_elsewhere_are_not_fetched(issuer: Issuer, tokens: Tokens) -> None:
    told = {"issuer": issuer.url, "jwks_uri": "http://keys.example/keys"}
    issuer.documents["/.well-known/openid-configuration"] = (200, json.dumps(told).encode())
    with pytest.raises(IssuerUnavailable, match="no https address"):
        tokens.verify(issuer.token())


def test_names_are_bounded_and_stay_apart(issuer: Issuer, tokens: Tokens) -> None:
    long = "repo:acme/" + "x" * 200
    names = {tokens.verify(issuer.token(sub=f"{long}{end}")).name for end in ("a", "b")}
    assert len(names) == 2
    assert all(len(name) == 100 for name in names)


# The file


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issuer": "http://ci.example"}, "must be https"),
        ({"issuer": "ci.example"}, "https://HOST/PATH"),
        ({"algorithms": ["HS256"]}, "HS256|Input should be"),
        ({"algorithms": []}, "algorithms"),
        ({"audience": ""}, "audience"),
        ({"name": "CI"}, "name"),
        ({"rules": [{"claims": {}, "scopes": ["builds:read"]}]}, "claims"),
        ({"rules": [{"claims": {"repository": "*"}, "scopes": ["builds:read"]}]}, "every token of the issuer"),
        ({"rules": [{"claims": {"aud": "x"}, "scopes": ["builds:read"]}]}, "every token of the issuer"),
        ({"rules": [{"claims": {"repository": ["a/b", "*"]}, "scopes": ["builds:read"]}]}, "every token of the issuer"),
        ({"rules": [{"claims": {"repository": "a/b"}, "scopes": ["admin"], "recipes": ["*"]}]}, "scopes"),
        ({"rules": [{"claims": {"repository": "a/b"}, "scopes": ["builds:write"]}]}, "say which recipes"),
        ({"rules": [{"claims": {"repository": "a/b"}, "scopes": ["builds:read"], "team": "A team"}]}, "team"),
        ({"rules": [{"claims": {"repository": "a/b"}, "scopes": ["builds:read"], "recipe": ["x"]}]}, "recipe"),
    ],
)
def test_a_file_that_trusts_too_much_or_has_a_slip_is_refused(
    tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    with pytest.raises(SettingsInvalid, match=why) as refused:
        trusting(tmp_path, issuers_file(changed.pop("issuer", "https://ci.example"), **changed))
    assert "GOLDSMITH_ISSUERS" in str(refused.value)


def test_two_issuers_of_one_name_are_refused(tmp_path: Path) -> None:
    both = json.loads(issuers_file("https://one.example"))
    both["issuers"] += json.loads(issuers_file("https://two.example"))["issuers"]
    with pytest.raises(SettingsInvalid, match="two have the same name"):
        trusting(tmp_path, json.dumps(both))
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        Tokens(tmp_path / "missing.yaml")


def test_the_examples_of_the_documentation_are_good(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/identity.md").read_text()
    examples = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    whole = [example for example in examples if "kind: Issuers" in example]
    assert whole
    for example in whole:
        trusting(tmp_path, example)


def test_without_a_file_no_token_is_accepted(issuer: Issuer) -> None:
    with pytest.raises(TokenRefused, match="trusts no issuer"):
        Tokens(None).verify(issuer.token())
