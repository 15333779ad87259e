"""All rules, in the order in which a verdict tells them."""

from __future__ import annotations

from builder.policy.rule import Rule
from builder.policy.rules import (
    accounts,
    base,
    base_age,
    completeness,
    database,
    devices,
    healthcheck,
    hermetic,
    histories,
    image_size,
    keys,
    licenses,
    misconfiguration,
    package_managers,
    packages,
    reproducible,
    secrets,
    setuid,
    shells,
    ssh_servers,
    tests,
    updates,
    user,
    vulnerabilities,
    world_writable,
)

RULES: dict[str, Rule] = {
    module.RULE.name: module.RULE
    for module in (
        completeness, database, vulnerabilities, updates, secrets, misconfiguration, setuid, world_writable, accounts,
        user, ssh_servers, keys, histories, devices, shells, package_managers, healthcheck, licenses, packages, base,
        base_age, image_size, tests, hermetic, reproducible,
    )
}  # fmt: skip
