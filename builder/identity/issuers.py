"""Which issuers of tokens are trusted, and what their tokens may do: GOLDSMITH_ISSUERS. docs/identity.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from builder.recipes.configured import Strict, read_configured
from builder.signing.loopback import is_loopback
from builder.store.scopes import TEAM_PATTERN, Scope

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
Grantable = Literal["builds:write", "builds:read", "provenance:read", "comparisons:write"]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[!-~]([ -~]*[!-~])?$")]
Team = Annotated[str, StringConstraints(pattern=TEAM_PATTERN)]
_RecipePattern = Annotated[str, StringConstraints(pattern=r"^[a-z0-9*-]{1,63}$")]


def _issuer(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("an issuer is https://HOST/PATH, exactly as its tokens name it")
    if parts.scheme == "http" and not is_loopback(url):
        raise ValueError("an issuer must be https: whoever can change its keys on the way can make tokens")
    return url


class Rule(Strict):
    """What a token may do whose claims match, all of them. In a pattern `*` stands for anything."""

    claims: Annotated[dict[str, _Text | list[_Text]], Field(min_length=1, max_length=20)] = Field(
        description="By the claim's name a pattern, or several of which one must match.",
        examples=[{"repository": "acme/web", "ref": "refs/heads/main"}],
    )
    scopes: Annotated[list[Grantable], Field(min_length=1)] = Field(
        description="What it may do. `admin` is for keys: a workflow's file must not make administrators."
    )
    recipes: Annotated[list[_RecipePattern], Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="Names of the only recipes that it may build; `*` stands for anything."
    )
    team: Team | None = Field(
        default=None, description="Whose limit of running builds its builds count for; without one its own."
    )

    @model_validator(mode="after")
    def _bound(self) -> Self:
        for name, patterns in self.claims.items():
            one = [patterns] if isinstance(patterns, str) else patterns
            if name not in ("iss", "aud") and one and all(pattern.strip("*") for pattern in one):
                break
        else:
            raise ValueError(
                "claims: no claim is bound, so every token of the issuer would match; name the repository or project"
            )
        if "builds:write" in self.scopes and self.recipes is None:
            raise ValueError("recipes: say which recipes it may build; '*' in quotes is all of them")
        return self

    def matches(self, claims: Mapping[str, Any]) -> bool:
        return all(_claim_matches(patterns, claims.get(name)) for name, patterns in self.claims.items())


class TrustedIssuer(Strict):
    """An issuer, whom its tokens must be for, and the rules: the first that matches a token decides."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = Field(
        description="What its callers' names begin with: `NAME:SUBJECT`.", examples=["github"]
    )
    issuer: Annotated[_Text, AfterValidator(_issuer)] = Field(
        examples=["https://token.actions.githubusercontent.com"],
        description="The `iss` of its tokens, to the letter; its keys are found from there.",
    )
    audience: _Text = Field(
        description="The `aud` of its tokens: this service's own name, which nobody else accepts tokens for.",
        examples=["https://goldsmith.example"],
    )
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = Field(
        default=["RS256", "ES256"], description="With what its tokens may be signed."
    )
    rules: Annotated[list[Rule], Field(min_length=1, max_length=500)]

    def rule_for(self, claims: Mapping[str, Any]) -> Rule | None:
        return next((rule for rule in self.rules if rule.matches(claims)), None)


class Issuers(Strict):
    api_version: Literal["goldsmith/v1"]
    kind: Literal["Issuers"]
    issuers: Annotated[list[TrustedIssuer], Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for member in ("name", "issuer"):
            told = [getattr(one, member) for one in self.issuers]
            if len(set(told)) != len(told):
                raise ValueError(f"issuers: two have the same {member}")
        return self


@dataclass(frozen=True)
class Granted:
    """What a rule gives. `recipes` are patterns; None is any recipe. Without a team the caller is one."""

    scopes: tuple[Scope, ...]
    recipes: tuple[str, ...] | None
    team: str | None


def read_issuers(path: Path) -> Issuers:
    """Raises SettingsInvalid that names the line at fault."""
    return read_configured(path, Issuers, variable="GOLDSMITH_ISSUERS", hint="docs/identity.md has examples")


def matches(pattern: str, text: str) -> bool:
    """Whether a text is as a pattern, in which nothing but `*` means more than itself."""
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def _claim_matches(patterns: str | list[str], told: object) -> bool:
    """A claim that is a list matches by one of its items, such as a group."""
    wanted = [patterns] if isinstance(patterns, str) else patterns
    values = told if isinstance(told, list) else [told]
    texts = [_text(value) for value in values]
    return any(matches(pattern, text) for pattern in wanted for text in texts if text is not None)


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None
