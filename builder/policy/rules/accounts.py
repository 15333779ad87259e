"""Nobody logs in to a container with a password. An account with one, or with an empty one, is a way in that nobody
needs; `hardening.lockPasswords` locks all. A policy can also say which accounts may have a shell to log in to.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Account, Facts
from builder.policy.rule import Judgement, Rule, count, matches, unknown
from builder.policy.strictness import ALLOWED, Parameters
from builder.policy.verdict import Offender

_NO_LOGIN = ("", "/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync")


class Accounts(Parameters):
    """Which accounts may be used to log in."""

    shells: Annotated[list[str] | None, ALLOWED] = Field(
        default=None,
        description="Accounts that may have a login shell, `*` stands for anything; when left out, any may.",
    )


def judge(facts: Facts, parameters: Accounts) -> Judgement:
    if facts.accounts is None:
        return unknown("the image's accounts", "build the image again: its /etc/passwd was not read")
    offenders = (
        *(_with_password(one) for one in facts.accounts if one.password != "locked"),  # noqa: S105
        *(_with_shell(one) for one in facts.accounts if not _may_have_shell(one, parameters)),
    )
    if not offenders:
        return Judgement(True, f"All {len(facts.accounts)} accounts are locked.")
    many = count(offenders, "account is", "accounts are")
    return Judgement(False, f"{many} open in a way that the policy does not allow.", offenders)


def _may_have_shell(account: Account, parameters: Accounts) -> bool:
    return parameters.shells is None or account.shell in _NO_LOGIN or matches(account.name, parameters.shells)


def _with_password(account: Account) -> Offender:
    how = {"empty": "an empty password", "set": "a password"}[account.password]
    return Offender(id=account.name, subject=how, remedy="leave spec.hardening.lockPasswords on")


def _with_shell(account: Account) -> Offender:
    return Offender(
        id=account.name, subject=f"the login shell {account.shell}", remedy="give it /usr/sbin/nologin (`usermod -s`)"
    )


RULE = Rule(
    name="accounts",
    title="All accounts are locked",
    parameters=Accounts,
    judge=judge,
    field="spec.hardening.lockPasswords",
    remedy="leave spec.hardening.lockPasswords on",
    example={"shells": ["root"]},
)
