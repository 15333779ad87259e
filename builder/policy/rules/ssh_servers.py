"""A container needs no SSH server: it is a second way in, with keys and accounts of its own, and host keys in an
image are the same in every container.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.policy.facts import Facts, Paths
from builder.policy.rule import Judgement, Rule, judge_paths
from builder.policy.strictness import ALLOWED, Parameters

_WHAT = "SSH servers or host keys"


class SshServers(Parameters):
    """Which of them may be there."""

    allowed: Annotated[list[str], ALLOWED] = Field(
        default=[], description="Paths that may be there; `*` stands for anything."
    )


def judge(facts: Facts, parameters: SshServers) -> Judgement:
    files = facts.files
    if files is None:
        return judge_paths(None, _WHAT, (), RULE.remedy)
    both = Paths(
        found=(*files.ssh_servers.found, *files.host_keys.found),
        total=files.ssh_servers.total + files.host_keys.total,
    )
    return judge_paths(both, _WHAT, parameters.allowed, RULE.remedy)


RULE = Rule(
    name="sshServers",
    title="No SSH server",
    parameters=SshServers,
    judge=judge,
    field="spec.packages",
    remedy="take openssh-server, dropbear and their host keys out of the image; use the engine's exec instead",
    example={"allowed": ["/usr/sbin/sshd"]},
)
