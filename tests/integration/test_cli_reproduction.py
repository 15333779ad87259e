"""`goldsmith verify --rebuilder` and `goldsmith rebuild REF` with a real registry and a real sandbox Sigstore."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.invocation import Invocation
from builder.cli.main import main
from builder.cli.trusting import Choice, TrustIncomplete
from builder.cli.trusting import trusted as whom_to_trust
from builder.pipeline.evidence import kept
from builder.policy.facts import MEDIA_TYPE
from builder.sandbox.oidc import REBUILDER_IDENTITY
from builder.store import attachments, builds
from builder.store.attachments import Kind
from tests.integration.published import Golden, Publisher, publishing
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox
from tests.unit.cli_commands import newest, playing
from tests.unit.cli_server import Api, running_api
from tests.unit.evidence import judged_evidence
from tests.unit.judged import facts

Output = pytest.CaptureFixture[str]
BELIEVED = ["--rebuilder", REBUILDER_IDENTITY]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def publisher(registry: str, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with publishing(registry, sandbox, tmp_path_factory.mktemp("publisher")) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GOLDSMITH_URL", "GOLDSMITH_API_KEY", "GOLDSMITH_CLIENT_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def golden(publisher: Publisher) -> Golden:
    """Released as it should be, and rebuilt by nobody yet."""
    made = publisher.image(f"image-{sum(1 for _ in publisher.directory.iterdir())}")
    made.sign()
    return made


def verified(golden: Golden, *options: str) -> int:
    return main(["verify", golden.reference, *golden.trust(), *options])


def lines(capsys: Output) -> list[str]:
    return capsys.readouterr().out.splitlines()


class TestReproduced:
    def test_an_attestation_of_the_rebuilders_is_told_with_who_and_when(self, golden: Golden, capsys: Output) -> None:
        golden.attest()
        assert verified(golden, *BELIEVED) == 0
        told = next(line for line in lines(capsys) if "reproduced" in line)
        assert told.startswith(f"ok      reproduced          bit for bit, by {REBUILDER_IDENTITY} at 20")
        assert verified(golden, *BELIEVED, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["trust"]["rebuilder"] == found["reproduction"]["identity"] == REBUILDER_IDENTITY
        assert found["reproduction"]["bitForBit"] is True
        assert found["reproduction"]["logIndex"] > found["logIndex"]
        assert found["reproduction"]["integratedTime"] >= found["integratedTime"]
        assert {"name": "reproduced", "passed": True} in [
            {name: one[name] for name in ("name", "passed")} for one in found["checks"]
        ]

    def test_the_same_content_compressed_otherwise_counts_and_is_told_as_that(
        self, golden: Golden, capsys: Output
    ) -> None:
        golden.attest(golden.reproduction(manifest=False))
        assert verified(golden, *BELIEVED, "--json") == 0
        assert json.loads(capsys.readouterr().out)["reproduction"]["bitForBit"] is False
        assert verified(golden, *BELIEVED) == 0
        assert "by config and diff IDs; its layers were compressed otherwise" in capsys.readouterr().out

    def test_whoever_insists_on_one_is_refused_an_image_without(self, golden: Golden, capsys: Output) -> None:
        assert verified(golden, *BELIEVED) == 2
        told = lines(capsys)
        assert f"FAILED  reproduced          no attestation of {REBUILDER_IDENTITY} that holds is attached" in told
        assert told[-1] == f"NOT verified: {golden.reference}"
        assert verified(golden, *BELIEVED, "--json") == 2
        found = json.loads(capsys.readouterr().out)
        assert (found["verified"], found["reproduction"]) == (False, None)

    def test_it_does_not_stand_in_for_the_signature_of_the_release(self, publisher: Publisher, capsys: Output) -> None:
        unsigned = publisher.image("unsigned")
        unsigned.attest()
        assert verified(unsigned, *BELIEVED) == 2
        assert "FAILED  signature" in capsys.readouterr().out


class TestDisbelieved:
    def refused(self, golden: Golden, capsys: Output) -> str:
        """Why what is attached does not count; the image itself verifies for whoever asks for no more."""
        assert verified(golden, *BELIEVED) == 2
        told = lines(capsys)
        assert [line for line in told if line.startswith("FAILED")] == [
            f"FAILED  reproduced          no attestation of {REBUILDER_IDENTITY} that holds is attached"
        ]
        assert verified(golden) == 0
        capsys.readouterr()
        (ignored,) = [line for line in told if line.startswith("ignored another bundle: ")]
        return ignored

    def test_one_signed_by_somebody_else(self, golden: Golden, capsys: Output) -> None:
        golden.sign(golden.reproduction())
        why = self.refused(golden, capsys)
        assert f"it says that the image was rebuilt, but: not signed by {REBUILDER_IDENTITY}" in why

    def test_one_of_another_sigstore(self, golden: Golden, foreign: Sandbox, capsys: Output) -> None:
        golden.attach_bundle(foreign.rebuilder().sign(golden.reproduction()).bundle)
        assert "it says that the image was rebuilt, but: the bundle does not verify" in self.refused(golden, capsys)

    def test_one_about_another_image(self, golden: Golden, publisher: Publisher, capsys: Output) -> None:
        other = publisher.image("another")
        golden.attest(other.reproduction())
        assert f"the statement does not speak of {golden.image.digest}, but of " in self.refused(golden, capsys)

    def test_another_kind_of_statement_by_the_right_identity(self, golden: Golden, capsys: Output) -> None:
        golden.attest(golden.statement())
        assert f"actual SANs: {{'{REBUILDER_IDENTITY}'}}" in self.refused(golden, capsys)

    @pytest.mark.parametrize("changed", [{"inventory": False}, {"manifest": False, "config": False}])
    def test_one_that_does_not_say_that_the_image_is_equal(
        self, golden: Golden, capsys: Output, changed: dict[str, bool]
    ) -> None:
        golden.attest(golden.reproduction(**changed))
        why = self.refused(golden, capsys)
        assert f"{REBUILDER_IDENTITY} rebuilt the image, but does not say that it is equal" in why

    def test_a_good_one_counts_beside_any_number_of_bad_ones(self, golden: Golden, capsys: Output) -> None:
        golden.sign(golden.reproduction())
        golden.attest()
        golden.attest(golden.reproduction(inventory=False))
        assert verified(golden, *BELIEVED) == 0
        assert capsys.readouterr().out.count("ignored another bundle: ") == 2


class TestConfigured:
    def test_without_being_told_whom_to_believe_it_says_how_to_tell(self, golden: Golden, capsys: Output) -> None:
        golden.attest()
        assert verified(golden) == 0
        told = lines(capsys)
        assert (
            "ignored another bundle: it says that the image was rebuilt; --rebuilder tells whom to believe that" in told
        )
        assert not any("reproduced" in line for line in told)

    def test_the_configurations_rebuilder_is_believed_and_not_insisted_on(
        self, golden: Golden, publisher: Publisher, tmp_path: Path, capsys: Output
    ) -> None:
        file = tmp_path / "client.json"
        file.write_text(json.dumps({"rebuilder": REBUILDER_IDENTITY}))
        file.chmod(0o600)
        assert verified(golden, "--config", str(file)) == 0
        assert "reproduced" not in capsys.readouterr().out
        golden.attest()
        assert verified(golden, "--config", str(file)) == 0
        assert f"ok      reproduced          bit for bit, by {REBUILDER_IDENTITY}" in capsys.readouterr().out
        assert verified(golden, "--config", str(file), "--rebuilder", "https://sandbox.invalid/other") == 2

    @pytest.mark.parametrize(
        ("given", "kept", "believed", "insisted"),
        [
            (None, None, None, False),
            (None, "kept", "kept", False),
            ("given", None, "given", True),
            ("given", "kept", "given", True),
            ("", "kept", "kept", True),
        ],
    )
    def test_the_command_line_goes_before_the_configuration(
        self, sandbox: Sandbox, tmp_path: Path, given: str | None, kept: str | None, believed: str, insisted: bool
    ) -> None:
        trust = whom_to_trust(self.invocation(sandbox, tmp_path, kept), Choice(None, None, None, given))
        assert (trust.rebuilder, trust.reproduced) == (believed, insisted)

    def test_a_rebuilder_that_is_nobody_is_not_taken_for_any(self, sandbox: Sandbox, tmp_path: Path) -> None:
        with pytest.raises(TrustIncomplete, match="--rebuilder names nobody"):
            whom_to_trust(self.invocation(sandbox, tmp_path, None), Choice(None, None, None, ""))

    def invocation(self, sandbox: Sandbox, directory: Path, rebuilder: str | None) -> Invocation:
        file = directory / "c.json"
        trust = {"trustedRoot": str(sandbox.trusted_root), "identity": sandbox.identity, "issuer": sandbox.issuer}
        file.write_text(json.dumps(trust | ({"rebuilder": rebuilder} if rebuilder else {})))
        file.chmod(0o600)
        return Invocation(None, None, file)


@pytest.fixture
def api(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """An API that releases to the registry."""
    with running_api(tmp_path / "state", registry=registry) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


class TestRebuild:
    def test_a_tag_is_what_the_registry_has_under_it_now(self, golden: Golden, api: Api, capsys: Output) -> None:
        assert main(["build", "web", "--no-wait"]) == 0
        api.worker(api.newest("web")).release(golden.image.digest, repository=golden.repository)
        for reference in (f"{golden.repository}:latest", golden.reference):
            assert main(["rebuild", reference, "--no-wait"]) == 0
            with api.database.read() as session:
                build = builds.get(session, newest(api, "web") or "")
            assert (build.purpose, build.subject) == ("rebuild", golden.image.digest)

    def test_a_tag_that_is_not_there_and_a_registry_that_is_not_are_told(
        self, golden: Golden, api: Api, capsys: Output
    ) -> None:
        assert main(["rebuild", f"{golden.repository}:none"]) == 1
        assert "is not in the registry" in capsys.readouterr().err
        assert main(["rebuild", "127.0.0.1:1/golden/web:latest"]) == 1
        assert "127.0.0.1:1 does not answer" in capsys.readouterr().err


def judged(api: Api, build_id: str) -> None:
    """Let a release have the facts that its verdict rests on, by which it would pass today."""
    found = facts()
    with api.database.write() as session:
        attachments.attach(session, build_id, Kind.FACTS, MEDIA_TYPE, found.to_bytes())
        build = builds.get(session, build_id)
        build.evidence = {**build.evidence, "scan": kept(judged_evidence(found))}


class TestUnchanged:
    def test_what_the_registry_still_has_is_not_built_again_unless_forced(
        self, golden: Golden, api: Api, capsys: Output
    ) -> None:
        with playing(api, "web", lambda worker: worker.release(golden.image.digest, repository=golden.repository)):
            assert main(["build", "web"]) == 0
        before = api.newest("web")
        judged(api, before)
        capsys.readouterr()
        for option in ([], ["--no-wait"]):
            assert main(["build", "web", *option]) == 0
            out = capsys.readouterr().out
            assert f"web: the same inputs were released before, by build {before}; --force builds anew" in out
            assert f"released   {golden.reference}" in out
        assert main(["build", "web", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == before
        assert api.newest("web") == before
        assert main(["build", "web", "--force", "--no-wait"]) == 0
        assert api.newest("web") != before
