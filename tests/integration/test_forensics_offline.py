"""A comparison from files alone, evidence and a signed report: with a real Sigstore, and nobody else to ask."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.forensics.report import PREDICATE_TYPE, Report
from builder.image.digests import hex_of
from tests.integration.published import Golden, Publisher, archive, publishing
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox

Output = pytest.CaptureFixture[str]
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Carried:
    """What a responder takes along: files, and the digest of the image they are about."""

    directory: Path
    golden: Golden

    @property
    def options(self) -> list[str]:
        return ["--bundle", str(self.bundle), "--inventory", str(self.inventory), *self.golden.trust()]

    @property
    def bundle(self) -> Path:
        return self.directory / "bundle.json"

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.zst"

    @property
    def documents(self) -> list[str]:
        return ["--manifest", str(self.directory / "manifest"), "--image-config", str(self.directory / "config")]


@pytest.fixture(scope="module")
def released(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with (
        running_registry(tmp_path_factory.mktemp("registry")) as registry,
        publishing(registry, sandbox, tmp_path_factory.mktemp("publisher")) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def golden(released: Publisher) -> Golden:
    made = released.image("carried")
    made.attach_inventory()
    return made


@pytest.fixture
def carried(golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Carried:
    client = golden.publisher.client
    files = Carried(tmp_path, golden)
    files.bundle.write_bytes(golden.sign())
    files.inventory.write_bytes(golden.inventory)
    manifest = client.manifests.get(golden.repository.at(golden.image.digest)).data
    (tmp_path / "manifest").write_bytes(manifest)
    layout = client.images.pull(golden.repository.at(golden.image.digest), tmp_path / "layout")
    (tmp_path / "config").write_bytes(layout.config_bytes)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GOLDSMITH_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    return files


def subject(directory: Path, **files: bytes) -> str:
    """A tar archive of the image's own tree, with changes."""
    content = {"etc/conf": b"a=1\n", "usr/bin/tool": b"carried", **{k.replace("__", "/"): v for k, v in files.items()}}
    (directory / "subject.tar").write_bytes(archive(content))
    return f"tar:{directory / 'subject.tar'}"


class TestOffline:
    def test_bundle_inventory_and_trusted_root_are_enough(self, carried: Carried, capsys: Output) -> None:
        assert main(["compare", *carried.options, subject(carried.directory)]) == 0
        out = capsys.readouterr().out
        assert f"golden      {carried.golden.image.digest}" in out
        assert "identical to its golden image" in out

    def test_what_differs_is_found(self, carried: Carried, capsys: Output) -> None:
        named = subject(carried.directory, tmp__miner=b"x")
        assert main(["compare", carried.golden.image.digest, named, *carried.options]) == 3
        assert "/tmp/miner  added" in capsys.readouterr().out

    def test_manifest_and_config_let_the_configuration_be_compared(self, carried: Carried, capsys: Output) -> None:
        layout = f"layout:{carried.directory / 'layout'}"
        assert main(["compare", *carried.options, *carried.documents, layout, "--json"]) == 0
        told = Report.model_validate_json(capsys.readouterr().out)
        assert (told.verdict, told.complete, told.configuration_compared) == ("identical", True, True)
        assert main(["compare", *carried.options, layout, "--json"]) == 0
        assert Report.model_validate_json(capsys.readouterr().out).verdict == "no-difference-seen"

    def test_another_digest_than_the_one_named_is_refused(self, carried: Carried, capsys: Output) -> None:
        other = "sha256:" + "00" * 32
        assert main(["compare", other, subject(carried.directory), *carried.options]) == 1
        assert "does not verify" in capsys.readouterr().err
        assert main(["compare", other, subject(carried.directory), *carried.options, *carried.documents]) == 1
        assert f"not {other}" in capsys.readouterr().err

    def test_half_of_what_is_needed_is_wrong_usage(self, carried: Carried, capsys: Output) -> None:
        assert main(["compare", "--bundle", str(carried.bundle), subject(carried.directory)]) == 64
        assert "both --bundle and --inventory" in capsys.readouterr().err

    def test_a_config_without_the_manifest_that_names_it_is_wrong_usage(self, carried: Carried, capsys: Output) -> None:
        options = [*carried.options, *carried.documents[2:]]
        assert main(["compare", *options, subject(carried.directory)]) == 64
        assert "--manifest" in capsys.readouterr().err

    def test_no_server_is_asked_whom_to_believe(self, carried: Carried, capsys: Output) -> None:
        files = ["--bundle", str(carried.bundle), "--inventory", str(carried.inventory)]
        assert main(["compare", *files, subject(carried.directory)]) == 1
        told = capsys.readouterr().err
        assert "--trusted-root and --identity and --issuer is missing" in told
        assert NOWHERE not in told


class TestTampering:
    """Nothing is compared with what does not verify: the subject is not even opened."""

    @pytest.fixture(autouse=True)
    def _no_subject(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def opened(*_: object, **__: object) -> None:
            raise AssertionError("the subject was read")

        monkeypatch.setattr("builder.forensics.subjects.archive.ArchiveSubject.entries", opened)

    def refused(self, carried: Carried, capsys: Output, *options: str) -> str:
        assert main(["compare", *carried.options, *options, subject(carried.directory)]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        return told.err

    def test_an_altered_inventory(self, carried: Carried, capsys: Output) -> None:
        carried.inventory.write_bytes(carried.golden.publisher.image("inventory-of-another").inventory)
        assert "it was altered, or is another image's" in self.refused(carried, capsys)

    def test_an_inventory_with_one_bit_flipped(self, carried: Carried, capsys: Output) -> None:
        content = bytearray(carried.inventory.read_bytes())
        content[len(content) // 2] ^= 1
        carried.inventory.write_bytes(content)
        assert "signed is sha256:" in self.refused(carried, capsys)

    def test_a_bundle_that_names_another_inventory(self, carried: Carried, capsys: Output) -> None:
        bundle = json.loads(carried.bundle.read_bytes())
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        statement["predicate"]["runDetails"]["byproducts"][0]["digest"]["sha256"] = "0" * 64
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
        carried.bundle.write_text(json.dumps(bundle))
        assert "does not verify" in self.refused(carried, capsys)

    @pytest.mark.parametrize("content", [b"", b"{}", b"rubbish", b'{"dsseEnvelope": {"payload": ""}}'])
    def test_a_bundle_that_is_none(self, carried: Carried, capsys: Output, content: bytes) -> None:
        carried.bundle.write_bytes(content)
        self.refused(carried, capsys)

    def test_an_altered_trusted_root(self, carried: Carried, capsys: Output, tmp_path: Path) -> None:
        root = json.loads(carried.golden.publisher.sandbox.trusted_root.read_text())
        key = root["tlogs"][0]["publicKey"]["rawBytes"]
        root["tlogs"][0]["publicKey"]["rawBytes"] = ("A" if key[40] != "A" else "B").join((key[:40], key[41:]))
        (tmp_path / "root.json").write_text(json.dumps(root))
        self.refused(carried, capsys, "--trusted-root", str(tmp_path / "root.json"))

    def test_a_trusted_root_of_somebody_else(self, carried: Carried, foreign: Sandbox, capsys: Output) -> None:
        assert "does not verify" in self.refused(carried, capsys, "--trusted-root", str(foreign.trusted_root))

    def test_another_identity(self, carried: Carried, capsys: Output) -> None:
        assert "does not verify" in self.refused(carried, capsys, "--identity", "https://sandbox.invalid/other")

    def test_a_config_that_is_not_the_images(self, carried: Carried, capsys: Output) -> None:
        (carried.directory / "config").write_bytes(b"{}")
        assert "the manifest names sha256:" in self.refused(carried, capsys, *carried.documents)


class TestEvidence:
    def test_changed_files_diffs_and_the_report_are_kept(
        self, golden: Golden, carried: Carried, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        named = subject(carried.directory, etc__conf=b"a=2\n", tmp__miner=b"ELF")
        kept = carried.directory / "evidence"
        golden.attach_bundle(carried.bundle.read_bytes())
        line = ["compare", golden.reference, named, *golden.trust(), "--evidence", str(kept)]
        assert main(line) == 3
        assert "evidence    2 files, 7 bytes, 1 diff in" in capsys.readouterr().out
        index = {one["path"]: one for one in json.loads((kept / "index.json").read_text())["files"]}
        assert (kept / "files" / index["/tmp/miner"]["sha256"]).read_bytes() == b"ELF"
        assert "-a=1\n+a=2\n" in (kept / index["/etc/conf"]["diff"]).read_text()
        assert Report.model_validate_json((kept / "report.json").read_text()).verdict == "suspicious"
        assert "<h1>SUSPICIOUS" in (kept / "report.html").read_text()
        assert main(line) == 1
        assert "is not empty" in capsys.readouterr().err

    def test_offline_there_are_no_diffs_and_that_is_said(self, carried: Carried, capsys: Output) -> None:
        named = subject(carried.directory, etc__conf=b"a=2\n")
        main(["compare", *carried.options, named, "--evidence", "kept"])
        out = capsys.readouterr().out
        assert "evidence    1 file, 4 bytes in kept" in out
        assert "no diffs: the image's layers are in its registry, which was not asked" in out


class TestForms:
    @pytest.mark.parametrize(
        ("form", "beginning"),
        [("json", "{"), ("sarif", "{"), ("markdown", "# "), ("html", "<!doctype html>"), ("text", "CRITICAL")],
    )
    def test_each_goes_to_a_file_and_the_terminal_gets_text(
        self, carried: Carried, capsys: Output, form: str, beginning: str
    ) -> None:
        named = subject(carried.directory, tmp__miner=b"ELF")
        assert main(["compare", *carried.options, named, "--format", form, "-o", "report"]) == 3
        assert Path("report").read_text().startswith(beginning)
        assert capsys.readouterr().out.startswith("CRITICAL")
        assert main(["compare", *carried.options, named, "--format", form]) == 3
        assert capsys.readouterr().out.startswith(beginning)

    def test_rules_of_ones_own_come_first_and_the_report_names_them(
        self, carried: Carried, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("rules.yaml").write_text(
            "format: goldsmith-comparison-rules/v1\nrules:\n"
            "  - {id: ours, severity: low, where: ['tmp/**'], reason: Our job leaves this.}\n"
        )
        named = subject(carried.directory, tmp__miner=b"ELF")
        monkeypatch.setenv("GOLDSMITH_COMPARISON_RULES", "rules.yaml")
        assert main(["compare", *carried.options, named, "--json"]) == 2
        told = Report.model_validate_json(capsys.readouterr().out)
        assert told.rules is not None
        assert {one.rule for one in told.findings} >= {"ours"}
        Path("broken.yaml").write_text("format: goldsmith-comparison-rules/v1\nrules: [{id: x}]\n")
        assert main(["compare", *carried.options, named, "--rules", "broken.yaml"]) == 1
        assert "broken.yaml" in capsys.readouterr().err


class TestSigned:
    @pytest.fixture(autouse=True)
    def _identity(self, sandbox: Sandbox, carried: Carried, monkeypatch: pytest.MonkeyPatch) -> None:
        credentials = sandbox.credentials()
        monkeypatch.setenv("GOLDSMITH_SIGSTORE_TRUST_CONFIG", str(sandbox.client_trust_config))
        monkeypatch.setenv("GOLDSMITH_IDENTITY_TOKEN_URL", credentials.token_endpoint)
        monkeypatch.setenv("GOLDSMITH_IDENTITY_CLIENT_ID", credentials.client_id)
        monkeypatch.setenv("GOLDSMITH_IDENTITY_CLIENT_SECRET_FILE", str(credentials.secret_file))

    def test_the_report_is_an_attestation_about_the_golden_image(
        self, carried: Carried, sandbox: Sandbox, capsys: Output
    ) -> None:
        named = subject(carried.directory, tmp__miner=b"ELF")
        assert main(["compare", *carried.options, named, "--format", "json", "-o", "report.json", "--sign"]) == 3
        assert f"signed      as SANDBOX, no real Sigstore: {sandbox.identity}" in capsys.readouterr().err
        bundle = Path("report.json.sigstore.json").read_bytes()
        verified = sandbox.verify(bundle, digest=carried.golden.image.digest, predicate_type=PREDICATE_TYPE)
        assert verified.statement.predicate == json.loads(Path("report.json").read_text())

    def test_stock_sigstore_verifies_it(self, carried: Carried, sandbox: Sandbox) -> None:
        main(["compare", *carried.options, subject(carried.directory), "-o", "report.txt", "--sign"])
        argv = [
            sys.executable, "-m", "sigstore", "--trust-config", str(sandbox.client_trust_config), "verify", "identity",
            "--offline", "--bundle", "report.txt.sigstore.json", "--cert-identity", sandbox.identity,
            "--cert-oidc-issuer", sandbox.issuer,
        ]  # fmt: skip
        digest = f"sha256:{hex_of(carried.golden.image.digest)}"
        ended = subprocess.run([*argv, digest], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr
        ended = subprocess.run([*argv, "sha256:" + "0" * 64], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode != 0

    def test_without_a_place_to_write_it_is_wrong_usage(self, carried: Carried, capsys: Output) -> None:
        assert main(["compare", *carried.options, subject(carried.directory), "--sign"]) == 64
