"""`goldsmith diff` with two releases in a real registry, signed by a real sandbox Sigstore."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from builder.cli.evidence import SCAN_TYPE
from builder.cli.main import main
from builder.image.canonical import canonicalise
from builder.image.digests import digest_of, hex_of
from builder.image.inventory import Package, write_inventory
from builder.registry.artifact import artifact_manifest
from builder.signing.statement import Statement
from tests.integration.published import Golden, Publisher, archive, publishing
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox

Output = pytest.CaptureFixture[str]
SCHEMA = Path(__file__).parents[2] / "docs" / "diff.schema.json"


@pytest.fixture(scope="module")
def publisher(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with (
        running_registry(tmp_path_factory.mktemp("registry")) as registry,
        publishing(registry, sandbox, tmp_path_factory.mktemp("publisher")) as made,
    ):
        yield made


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GOLDSMITH_URL", "http://127.0.0.1:9")
    for name in ("GOLDSMITH_API_KEY", "GOLDSMITH_CLIENT_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def report(golden: Golden, *vulnerabilities: str) -> bytes:
    """As Trivy writes one about the image."""
    found = [
        {"VulnerabilityID": name, "PkgName": "tool", "InstalledVersion": "1.0-1", "Severity": "HIGH"}
        for name in vulnerabilities
    ]
    document = {
        "SchemaVersion": 2,
        "ArtifactName": golden.reference,
        "Metadata": {"RepoDigests": [golden.reference]},
        "Results": [{"Target": "debian", "Vulnerabilities": found}],
    }
    return json.dumps(document).encode()


def attach_scan(golden: Golden, content: bytes) -> None:
    client = golden.publisher.client
    blob = client.blobs.push_bytes(golden.repository, content, SCAN_TYPE)
    client.referrers.attach(golden.repository, artifact_manifest(golden.image, blob, artifact_type=SCAN_TYPE))


def naming(statement: Statement, scan: bytes) -> Statement:
    """The statement, with a scan report among what the build made, as the release stage names it."""
    predicate: dict[str, Any] = json.loads(json.dumps(statement.predicate))
    annotations = {"scanner": "Trivy 0.76.0", "databaseUpdated": "2026-01-01T00:00:00+00:00", "sampleDatabase": True}
    predicate["runDetails"]["byproducts"].append(
        {"name": "scan", "digest": {"sha256": hex_of(digest_of(scan))}, "annotations": annotations}
    )
    return statement.model_copy(update={"predicate": predicate})


def released(publisher: Publisher, name: str, version: str, *found: str) -> Golden:
    """A release whose tool is of a package, with its inventory and its signed scan report beside it."""
    made = publisher.image(name)
    files = {"etc/conf": b"a=1\n", "usr/bin/tool": name.encode()}
    directory = publisher.directory / f"{name}-inventory"
    directory.mkdir()
    with canonicalise(io.BytesIO(archive(files)), spool_dir=directory, epoch=1_700_000_000) as tree:
        inventory = write_inventory(
            tree.entries,
            directory / "inventory",
            owner=lambda entry: Package("tool", version) if entry.path.startswith(b"usr/") else None,
        )
    golden = replace(made, inventory=inventory.path.read_bytes())
    scan = report(golden, *found)
    golden.sign(naming(golden.statement(), scan))
    golden.attach_inventory()
    attach_scan(golden, scan)
    return golden


@pytest.fixture(scope="module")
def older(publisher: Publisher) -> Golden:
    return released(publisher, "older", "1.0-1", "CVE-2026-1", "CVE-2026-2")


@pytest.fixture(scope="module")
def newer(publisher: Publisher) -> Golden:
    return released(publisher, "newer", "1.1-1", "CVE-2026-2", "CVE-2026-3")


def test_two_releases_differ_by_package_path_and_finding(older: Golden, newer: Golden, capsys: Output) -> None:
    assert main(["diff", older.reference, newer.reference, *older.trust(), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, json.loads(SCHEMA.read_text()))
    assert (told["verdict"], told["complete"]) == ("different", True)
    (package,) = told["packages"]
    assert (package["name"], package["change"]) == ("tool", "upgraded")
    assert [one["path"] for one in package["files"]] == ["/usr/bin/tool"]
    assert told["files"] == []
    assert {sort: [one["id"] for one in found] for sort, found in told["findings"].items()} == {
        "new": ["CVE-2026-3"], "gone": ["CVE-2026-1"], "remaining": ["CVE-2026-2"],
    }  # fmt: skip
    assert told["before"]["scan"] | {"digest": ""} == {
        "digest": "", "signed": True, "scanner": "Trivy 0.76.0",
        "databaseUpdated": "2026-01-01T00:00:00Z", "sampleDatabase": True,
    }  # fmt: skip


def test_a_release_does_not_differ_from_itself(older: Golden, capsys: Output) -> None:
    assert main(["diff", older.reference, str(older.repository.tagged("latest")), *older.trust()]) == 0
    assert "nothing differs" in capsys.readouterr().out


def test_text_goes_to_the_terminal_and_markdown_to_the_file(older: Golden, newer: Golden, capsys: Output) -> None:
    given = ["diff", older.reference, newer.reference, *older.trust(), "--format", "markdown", "-o", "notes.md"]
    assert main(given) == 2
    assert "~ tool 1.0-1 -> 1.1-1" in capsys.readouterr().out
    notes = Path("notes.md").read_text()
    assert "| `tool` | upgraded | `1.0-1` | `1.1-1` | 1 |" in notes
    assert "| HIGH | CVE-2026-3 |" in notes


def test_an_image_whose_signature_does_not_verify_is_compared_with_nothing(
    publisher: Publisher, older: Golden, capsys: Output
) -> None:
    unsigned = publisher.image("unsigned")
    unsigned.attach_inventory()
    for pair in ((older, unsigned), (unsigned, older)):
        assert main(["diff", *(one.reference for one in pair), *older.trust()]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert "does not verify" in told.err


def test_an_inventory_other_than_the_signed_one_is_refused(
    publisher: Publisher, older: Golden, newer: Golden, capsys: Output
) -> None:
    tampered = publisher.image("tampered")
    tampered.sign()
    tampered.attach_inventory(newer.inventory)
    assert main(["diff", older.reference, tampered.reference, *older.trust()]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "no inventory" in told.err


def test_a_report_that_is_not_the_signed_one_is_not_believed(
    publisher: Publisher, older: Golden, capsys: Output
) -> None:
    swapped = publisher.image("swapped")
    swapped.sign(naming(swapped.statement(), report(swapped, "CVE-2026-9")))
    swapped.attach_inventory()
    attach_scan(swapped, report(swapped))
    assert main(["diff", older.reference, swapped.reference, *older.trust(), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["findings"], told["complete"]) == (None, False)
    assert "is not kept, only 1 other" in told["undetermined"][0]


def test_a_report_that_nobody_signed_is_told_as_such(publisher: Publisher, older: Golden, capsys: Output) -> None:
    loose = publisher.image("loose")
    loose.sign()
    loose.attach_inventory()
    attach_scan(loose, report(loose, "CVE-2026-2"))
    assert main(["diff", older.reference, loose.reference, *older.trust()]) == 2
    told = capsys.readouterr().out
    assert f"The scan report of {loose.reference} is NOT signed" in told
    assert "gone" in told


def test_without_report_and_api_findings_are_undetermined(publisher: Publisher, older: Golden, capsys: Output) -> None:
    bare = publisher.image("bare")
    bare.sign(naming(bare.statement(), report(bare)))
    bare.attach_inventory()
    assert main(["diff", older.reference, bare.reference, *older.trust()]) == 2
    told = capsys.readouterr().out
    assert "UNDETERMINED  the findings: the scan report of" in told
    assert "does not answer" in told
