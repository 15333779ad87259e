"""Scanned builds in a database: the facts that were kept of an image, and what the gate said of it then."""

from __future__ import annotations

import time
from datetime import timedelta

from builder.pipeline.evidence import kept
from builder.policy.effective import effective
from builder.policy.facts import MEDIA_TYPE, Account, BaseFacts, Facts, Files, ImageFacts, Update
from builder.policy.gate import evaluate
from builder.policy.organisation import DEFAULT
from builder.recipes.reading import canonical_json, read_recipe
from builder.scanning.findings import Findings, Misconfiguration, Package, Secret, Severity, Vulnerability
from builder.store import attachments, builds
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.database import Database
from builder.store.schema import Release
from builder.store.states import State
from tests.unit.evidence import build_evidence, digest, release_evidence, scan_evidence
from tests.unit.judged import DATABASE, NOW, facts, paths

RECIPE = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: NAME}
spec:
  base: {debian: {suite: trixie}}
  policy: POLICY
  publish: {repository: golden/NAME}
"""


def scanned(
    database: Database, judged: Facts, *, policy: str = "{}", image: str | None = None, keeps_facts: bool = True
) -> str:
    """A build whose image was judged by the default policy and `policy`, its recipe's; of an `image` it is released."""
    recipe = read_recipe(RECIPE.replace("NAME", judged.recipe).replace("POLICY", policy))
    verdict = evaluate(effective(DEFAULT, judged.recipe, recipe.spec.policy), judged)
    scan = scan_evidence().model_copy(update={"verdict": verdict})
    with database.write() as session:
        text = canonical_json(recipe).decode()
        build = builds.submit(session, Submission(judged.recipe, digest("1"), text, "request", "ci"))
        build.evidence = {"build": kept(build_evidence(image or digest("a"))), "scan": kept(scan)}
        build.state = State.FAILED if image is None else State.RELEASED
        if keeps_facts:
            attachments.attach(session, build.id, Kind.FACTS, MEDIA_TYPE, judged.to_bytes())
        attachments.attach(session, build.id, Kind.SCAN, "application/json", b"{}")
        if image is not None:
            build.evidence = {**build.evidence, "release": kept(release_evidence())}
            session.add(
                Release(
                    build_id=build.id, digest=image, recipe_name=judged.recipe, recipe_digest=digest("1"),
                    registry_host="registry.example:5000", repository=f"golden/{judged.recipe}", tags=["1"],
                    released_at=time.time(),
                )
            )  # fmt: skip
        return build.id


def hopeless() -> Facts:
    """Facts of an image that breaks every rule."""
    severity, digits = Severity.CRITICAL, "a" * 64
    bad = paths("/usr/bin/bad", unlisted=3)
    return facts(
        database=DATABASE.model_copy(update={"stale": True, "updated_at": NOW - timedelta(days=99)}),
        covered=False,
        findings=Findings(
            vulnerabilities=(
                Vulnerability(id="CVE-2026-0001", package="openssl", installed="3.5.1-1", fixed="3.5.1-2",
                              severity=severity, status="fixed", target="app"),
            ),
            secrets=(Secret(rule="private-key", severity=severity, target="/etc/key", line=1),),
            misconfigurations=(
                Misconfiguration(id="DS-0002", title="The user is root", severity=severity, message="m",
                                 target="config"),
            ),
        ),
        packages=(Package(name="perl", version="5", licenses=("AGPL-3.0-only",)),),
        packages_seen=1,
        packages_expected=200,
        image=ImageFacts(architecture="amd64", user="0", uid=0, layers=1, compressed_bytes=10**10),
        files=Files(
            unpacked_bytes=10**11, setid=bad, world_writable=bad, shells=bad, package_managers=bad, ssh_servers=bad,
            host_keys=bad, private_keys=bad, histories=bad, devices=bad,
        ),
        accounts=(Account(name="root", uid=0, password="empty", shell="/bin/bash"),),
        base=BaseFacts(image=f"elsewhere.example/base@sha256:{digits}", created=NOW - timedelta(days=4000)),
        updates=(Update(package="openssl", installed="1", available="2", security=True),),
        tests=(),
        hermetic=False,
        reproduced=False,
    )  # fmt: skip


# Names every rule, each with the strictest parameters that leave an ordinary image a way.
EVERYTHING = """\
apiVersion: goldsmith/v1
kind: Policy
metadata: {name: everything, version: "1"}
spec:
  rules:
    completeness: {}
    database: {maximumAgeHours: 48}
    vulnerabilities: {maximumSeverity: medium}
    updates: {}
    secrets: {}
    misconfiguration: {maximumSeverity: medium}
    setuid: {}
    worldWritable: {}
    accounts: {}
    user: {}
    sshServers: {}
    keys: {}
    histories: {}
    devices: {}
    shells: {}
    packageManagers: {}
    healthcheck: {}
    licenses: {deny: [AGPL-3.0-only]}
    packages: {deny: [perl]}
    base: {allow: ["recipe:debian"]}
    baseAge: {}
    imageSize: {maximumCompressedBytes: 1000000000, maximumUnpackedBytes: 1000000000}
    tests: {}
    hermetic: {}
    reproducible: {}
  custom:
    - name: no-perl
      title: No Perl
      expression: facts.packages.all(p, p.name != 'perl')
      remedy: take perl out of spec.packages
"""
