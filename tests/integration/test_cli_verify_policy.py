"""`goldsmith verify` with a policy, with an archive alone, and with the ledger's proof: each alteration is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.cli.main import main
from builder.image.digests import digest_of
from builder.ledger import serving
from builder.ledger.record import LedgerRecord, append
from builder.store.database import Database
from tests.integration.published import BUILDER_ID, Golden, Publisher, publishing
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox
from tests.unit.evidence_archives import write_members
from tests.unit.ledgers import add_build, append_records, new_key, sign

pytest_plugins = ["tests.unit.databases"]


class Recorded(LedgerRecord):
    bundles: dict[str, str]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def publisher(registry: str, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with publishing(registry, sandbox, tmp_path_factory.mktemp("published")) as found:
        yield found


class Case:
    """A signed image, its ledger, and an archive of both."""

    def __init__(self, golden: Golden, directory: Path) -> None:
        self.golden, self.directory = golden, directory
        bundle = golden.sign()
        manifest = golden.publisher.client.manifests.get(golden.repository.at(golden.image.digest)).data
        self.database = Database(f"sqlite:///{directory / 'ledger.db'}")
        self.database.migrate()
        append_records(self.database, 5)
        record = Recorded(
            format="goldsmith-test-record/v1", build_id=f"{90:026}", image_digest=golden.image.digest,
            bundles={"provenance": digest_of(bundle)},
        )  # fmt: skip
        with self.database.write() as session:
            add_build(session, 90)
            append(session, record)
        append_records(self.database, 3, 5)
        self.key = new_key(directory)
        sign(self.database, self.key)
        with self.database.read() as session:
            proof, entry = serving.signed_proof(session, 5).encode(), serving.entry_at(session, 5).entry
        assert entry is not None
        self.members = {
            "manifest.json": manifest,
            "bundles/provenance.json": bundle,
            "inventory.jsonl.zst": golden.inventory,
            "record.json": record.canonical(),
            "ledger/entry.json": entry,
            "ledger/proof.tlog-proof": proof,
        }

    def archive(self, **changed: bytes | None) -> str:
        """An archive that is whole, its members changed."""
        names = {"manifest": "manifest.json", "bundle": "bundles/provenance.json", "inventory": "inventory.jsonl.zst",
                 "record": "record.json", "entry": "ledger/entry.json", "proof": "ledger/proof.tlog-proof"}  # fmt: skip
        members = {**self.members, **{names[name]: data for name, data in changed.items()}}
        path = self.directory / f"{len(list(self.directory.iterdir()))}.tar"
        return str(write_members(path, {name: data for name, data in members.items() if data is not None}))

    def policy(self, **changed: Any) -> Path:
        sandbox = self.golden.publisher.sandbox
        spec = {
            "trustedRoot": str(sandbox.trusted_root), "allowSandbox": True,
            "signers": [{"identity": sandbox.identity, "issuer": sandbox.issuer}],
            "ledgerKeys": [str(self.key.verifier)], "builders": [BUILDER_ID], **changed,
        }  # fmt: skip
        head = {"apiVersion": "goldsmith/v1", "kind": "VerificationPolicy", "metadata": {"name": "t"}}
        path = self.directory / f"policy-{len(list(self.directory.iterdir()))}.yaml"
        path.write_text(json.dumps({**head, "spec": {name: one for name, one in spec.items() if one is not None}}))
        return path


@pytest.fixture(scope="module")
def case(publisher: Publisher, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(publisher.image("policied"), tmp_path_factory.mktemp("case"))


@pytest.fixture
def none(tmp_path: Path) -> str:
    """A configuration that names nobody to ask."""
    path = tmp_path / "none.json"
    path.write_text('{"url": "http://127.0.0.1:9"}')
    path.chmod(0o600)
    return str(path)


def verified(
    capsys: pytest.CaptureFixture[str], none: str, *arguments: str | Path
) -> tuple[int, dict[str, tuple[bool, str]]]:
    code = main(["verify", *map(str, arguments), "--json", "--config", none])
    out = capsys.readouterr().out
    found = json.loads(out) if out else {}
    return code, {one["name"]: (one["passed"], one["detail"]) for one in found.get("checks", [])}


def test_an_archive_is_verified_offline(case: Case, none: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verified(capsys, none, case.archive(), "--offline", "--policy", case.policy())
    assert code == 0
    assert all(passed for passed, _ in found.values())
    assert found["ledger inclusion"][1].startswith("entry 5 of 9 in log.example/golden")
    assert found["documents"][1] == "inventory: as in the provenance"
    assert found["manifest digest"][1].startswith(case.golden.image.digest)
    assert found["expected builder"] == (True, BUILDER_ID)


def test_options_do_what_a_policy_does(case: Case, none: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = ["--ledger-key", str(case.key.verifier)]
    code, found = verified(capsys, none, case.archive(), "--offline", *case.golden.trust(), *key)
    assert code == 0
    assert found["ledger inclusion"][0]


def test_an_image_in_a_registry_is_held_to_a_policy(case: Case, none: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verified(capsys, none, case.golden.reference, "--policy", case.policy(ledgerKeys=None))
    assert code == 0
    assert "ledger inclusion" not in found
    code, found = verified(capsys, none, case.golden.reference, "--policy", case.policy())
    assert code == 2
    assert found["ledger inclusion"] == (False, found["ledger inclusion"][1])
    assert "name the image's archive" in found["ledger inclusion"][1]


@pytest.mark.parametrize(
    ("changed", "name", "why"),
    [
        ({"allowSandbox": False}, "real signature", "signed by a sandbox"),
        ({"builders": ["https://other.example/*"]}, "expected builder", "expected is https://other.example/*"),
        ({"buildTypes": ["urn:other"]}, "build type", "expected is urn:other"),
        ({"recipes": ["other"]}, "expected recipe", "expected is other"),
        ({"sources": ["https://git.example/*"]}, "expected source", "tells none"),
        ({"requesters": ["ci"]}, "requester", "tells none"),
        ({"hermetic": True}, "hermetic", "does not tell"),
        ({"gatePolicies": ["sha256:" + "0" * 64]}, "gate policy", "no verdict"),
        ({"require": ["sbom"]}, "sbom", "that holds is attached"),
        ({"rebuiltBy": "https://nobody.example"}, "reproduced", "no attestation of https://nobody.example"),
    ],
)
def test_each_expectation_refuses(
    case: Case, none: str, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], name: str, why: str
) -> None:
    code, found = verified(capsys, none, case.archive(), "--offline", "--policy", case.policy(**changed))
    assert code == 2
    assert [one for one, (passed, _) in found.items() if not passed] == [name]
    assert why in found[name][1]


def test_one_of_several_signers_is_enough(case: Case, none: str, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox = case.golden.publisher.sandbox
    other = {"identity": "https://other.example", "issuer": sandbox.issuer}
    own = {"identity": sandbox.identity, "issuer": sandbox.issuer}
    for signers in ([other, own], [own, other]):
        assert verified(capsys, none, case.archive(), "--offline", "--policy", case.policy(signers=signers))[0] == 0
    code, found = verified(capsys, none, case.archive(), "--offline", "--policy", case.policy(signers=[other]))
    assert code == 2
    assert not found["signature identity"][0]


def test_another_ledgers_key_does_not_open_it(case: Case, none: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = new_key(case.directory, "other-key")
    code, found = verified(capsys, none, case.archive(), "--policy", case.policy(ledgerKeys=[str(other.verifier)]))
    assert code == 2
    assert not found["ledger inclusion"][0]


def test_an_entry_about_another_image_is_refused(
    case: Case, publisher: Publisher, none: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything signed and whole, the proof is another image's."""
    golden = publisher.image("another-policied")
    bundle = golden.sign()
    manifest = publisher.client.manifests.get(golden.repository.at(golden.image.digest)).data
    archive = case.archive(manifest=manifest, bundle=bundle, inventory=golden.inventory)
    code, found = verified(capsys, none, archive, "--policy", case.policy())
    assert code == 2
    assert found["ledger inclusion"] == (False, f"entry 5 is about {case.golden.image.digest}")


def test_a_record_of_another_signature_is_refused(case: Case, none: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The image's own provenance, but not the one that was released."""
    again = case.golden.publisher.sandbox.signer().sign(case.golden.statement()).bundle
    code, found = verified(capsys, none, case.archive(bundle=again), "--policy", case.policy())
    assert code == 2
    assert "does not name the provenance" in found["ledger inclusion"][1]


def test_another_document_than_the_build_made_is_refused(
    case: Case, none: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = verified(capsys, none, case.archive(inventory=b"another"), "--policy", case.policy())
    assert code == 2
    assert found["documents"][1].startswith(f"inventory is {digest_of(b'another')}; the provenance names")


def test_an_archive_that_is_not_whole_is_refused(case: Case, none: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(case.archive())
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"recordedAt":"2', b'"recordedAt":"3', 1))
    assert main(["verify", str(path), "--policy", str(case.policy()), "--config", none]) == 2
    assert "ledger/entry.json is sha256:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--identity", "x"), ("--issuer", "x"), ("--trusted-root", "x"), ("--ledger-key", "x"), ("--rebuilder", "x"),
    ],
)  # fmt: skip
def test_what_the_policy_says_cannot_be_said_twice(
    case: Case, none: str, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    policy = case.policy(rebuiltBy="https://rebuilder.example")
    assert main(["verify", case.archive(), "--policy", str(policy), option, value, "--config", none]) == 1
    assert f"{option} and {policy} both say it" in capsys.readouterr().err


def test_offline_nobody_is_asked(case: Case, none: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", case.golden.reference, "--offline", "--config", none]) == 64
    assert "name an archive that `goldsmith bundle` wrote" in capsys.readouterr().err
    assert main(["verify", case.archive(), "--offline", "--config", none]) == 1
    assert "--trusted-root and --identity and --issuer is missing" in capsys.readouterr().err
    who = ["--trusted-root", "public", "--identity", "x", "--issuer", "y"]
    assert main(["verify", case.archive(), "--offline", *who, "--config", none]) == 1
    assert "offline, name a file" in capsys.readouterr().err


def test_a_policy_that_trusts_nobody_does_not_mean_the_server(
    case: Case, none: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = case.policy(trustedRoot=None, signers=None)
    assert main(["verify", case.archive(), "--policy", str(policy), "--config", none]) == 1
    assert "--trusted-root and --identity and --issuer is missing" in capsys.readouterr().err


def test_a_public_root_of_the_configuration_is_not_fetched_offline(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "public.json"
    config.write_text(json.dumps({"trustedRoot": "public", "identity": "x", "issuer": "y"}))
    config.chmod(0o600)
    assert main(["verify", case.archive(), "--offline", "--config", str(config)]) == 1
    assert "offline, name a file" in capsys.readouterr().err


def test_a_file_without_keys_is_no_ledger_key(
    case: Case, none: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "keys"
    empty.write_text("\n")
    arguments = ["verify", case.archive(), *case.golden.trust(), "--ledger-key", str(empty), "--config", none]
    assert main(arguments) == 1
    assert "has no verifier key" in capsys.readouterr().err


def test_a_ledger_key_of_the_configuration_is_enough_to_want_an_archives_proof(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ledger.json"
    config.write_text(json.dumps({"ledgerKey": str(case.key.verifier)}))
    config.chmod(0o600)
    whole = verified(capsys, str(config), case.archive(), *case.golden.trust())
    assert whole[0] == 0
    assert whole[1]["ledger inclusion"][0]
    assert verified(capsys, str(config), case.archive(proof=None), *case.golden.trust())[0] == 2


def test_the_record_of_an_older_signature_does_not_vouch_for_a_newer_one(
    publisher: Publisher, none: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(publisher.image("twice-signed"), tmp_path)
    newer = case.golden.publisher.sandbox.signer().sign(case.golden.statement()).bundle
    case.members["bundles/provenance-2.json"] = newer
    code, found = verified(capsys, none, case.archive(), "--policy", case.policy())
    assert code == 2
    assert "does not name the provenance" in found["ledger inclusion"][1]


def test_a_file_named_like_a_digest_is_not_verified_in_its_place(
    case: Case, none: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "sha256:" + "0" * 64
    Path(name).write_bytes(Path(case.archive()).read_bytes())
    assert main(["verify", name, *case.golden.trust(), "--config", none]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_a_document_that_nobody_signed_for_is_refused(
    case: Case, none: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case.members["scan.json"] = b"{}"
    try:
        code, found = verified(capsys, none, case.archive(), "--policy", case.policy())
    finally:
        del case.members["scan.json"]
    assert code == 2
    assert found["documents"] == (False, "scan came along, and the provenance does not name it")


def test_a_mistake_in_the_policy_is_told_with_its_line(
    case: Case, none: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = case.policy(hermtic=True)
    assert main(["verify", case.archive(), "--policy", str(policy), "--config", none]) == 1
    assert "did you mean 'hermetic'?" in capsys.readouterr().err
    assert main(["verify", case.archive(), "--policy", "no-such.yaml", "--config", none]) == 1
    assert "no-such.yaml cannot be read" in capsys.readouterr().err
