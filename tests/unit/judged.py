"""Facts of an image that breaks no rule, to be changed in the one thing that a test is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from builder.policy.facts import Account, BaseFacts, Facts, Files, Found, ImageFacts, Paths, RanTest
from builder.policy.rules import RULES
from builder.policy.verdict import RuleResult
from builder.scanning.findings import DatabaseIdentity, Findings, OperatingSystem, Package, ScannerIdentity

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
REFERENCE = f"127.0.0.1:5000/staging/app@{DIGEST}"
DATABASE = DatabaseIdentity(
    digest="sha256:" + "d" * 64, updated_at=NOW, next_update=NOW, downloaded_at=NOW, source="trivy-default",
    sample=False,
)  # fmt: skip
PACKAGES = (
    Package(name="libc6", version="2.41-12", source_package="glibc", licenses=("LGPL-2.1-or-later",)),
    Package(name="openssl", version="3.5.1-1", licenses=("Apache-2.0",)),
)


def facts(**changes: Any) -> Facts:
    """All is well but for what is changed."""
    fields: dict[str, Any] = {
        "gathered_at": NOW,
        "reference": REFERENCE,
        "recipe": "app",
        "scanner": ScannerIdentity(name="trivy", version="0.76.0", sha256="0" * 64),
        "database": DATABASE,
        "operating_system": OperatingSystem(family="debian", name="13"),
        "covered": True,
        "findings": Findings(),
        "packages": PACKAGES,
        "packages_seen": len(PACKAGES),
        "packages_expected": len(PACKAGES),
        "image": ImageFacts(
            architecture="amd64", user="10001:10001", uid=10001, healthcheck=True, layers=1, compressed_bytes=1000
        ),
        "files": Files(unpacked_bytes=3000),
        "accounts": (Account(name="root", uid=0, password="locked", shell="/bin/bash"),),
        "base": BaseFacts(recipe="debian", digest=DIGEST, suite="trixie", created=NOW - timedelta(days=10)),
        "updates": (),
        "tests": (RanTest(name="command true", passed=True),),
        "hermetic": True,
        "reproduced": True,
    }
    return Facts(**{**fields, **changes})


def paths(*names: str, unlisted: int = 0) -> Paths:
    return Paths(found=tuple(Found(path=name) for name in names), total=len(names) + unlisted)


def judge(name: str, parameters: dict[str, object] | None = None, **changes: Any) -> RuleResult:
    """What one rule says, with parameters as a policy writes them."""
    rule = RULES[name]
    return rule.apply(facts(**changes), rule.parameters.model_validate(parameters or {}))
