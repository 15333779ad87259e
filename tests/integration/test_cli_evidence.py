"""`goldsmith verify`, `compare` and `provenance` with a real registry, a real sandbox Sigstore and a real engine."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from builder.cli.evidence import INVENTORY_TYPE
from builder.cli.main import main
from builder.client.api import Client
from builder.forensics.report import Report
from builder.image.digests import digest_of, hex_of
from builder.image.documents import Index, parse_manifest
from builder.recipes.reading import recipe_digest
from builder.registry.artifact import BUNDLE
from builder.registry.reference import Repository
from builder.scanning.artifact import TAG
from builder.signing.statement import Statement
from builder.store.attachments import Kind
from tests.integration.published import BUILDER_ID, RECIPE, Golden, Publisher, archive, publishing
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox
from tests.unit.cli_server import Api, free_port, running_api

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def registry_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def registry(registry_directory: Path) -> Iterator[str]:
    with running_registry(registry_directory) as address:
        yield address


@pytest.fixture(scope="module")
def publisher(registry: str, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with publishing(registry, sandbox, tmp_path_factory.mktemp("publisher")) as made:
        yield made


@pytest.fixture(scope="module")
def golden(publisher: Publisher) -> Golden:
    """Released as it should be."""
    made = publisher.image("good")
    made.sign()
    made.attach_inventory()
    return made


@pytest.fixture(scope="module")
def api(golden: Golden, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that has released the golden image and says whom it signs as."""
    settings = {
        "registry": golden.repository.registry,
        "sigstore_trust_config": sandbox.client_trust_config,
        "signer_identity": sandbox.identity,
        "signer_issuer": sandbox.issuer,
    }
    with running_api(tmp_path_factory.mktemp("api") / "state", **settings) as running:
        main(["build", "web", "--no-wait", "--url", running.url, "--key", running.key])
        worker = running.worker(running.newest("web"))
        worker.attach(Kind.PROVENANCE, BUNDLE, sandbox.signer().sign(golden.statement()).bundle)
        worker.attach(Kind.INVENTORY, INVENTORY_TYPE, golden.inventory)
        worker.release(golden.image.digest, repository=golden.repository)
        yield running


@pytest.fixture(autouse=True)
def _nothing_but_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker_engine: str) -> None:
    monkeypatch.setenv("GOLDSMITH_ENGINE_URL", docker_engine)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GOLDSMITH_URL", "GOLDSMITH_API_KEY", "GOLDSMITH_CLIENT_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API, named in the environment."""
    for name, value in api.environment.items():
        monkeypatch.setenv(name, value)
    return api


@pytest.fixture(scope="module")
def engine(docker_engine: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=docker_engine)
    yield client
    client.close()


@pytest.fixture
def container(engine: docker.DockerClient, golden: Golden) -> Iterator[str]:
    """A container of the golden image; it is never started, so nothing in it has to run."""
    engine.images.pull(golden.reference)
    made = engine.containers.create(golden.reference, network_mode="none")
    yield str(made.name)
    made.remove(force=True)
    engine.images.remove(golden.reference, force=True)


# Verify


def test_what_was_released_verifies_check_by_check(golden: Golden, capsys: Output) -> None:
    assert main(["verify", golden.reference, *golden.trust()]) == 0
    out = capsys.readouterr().out
    for name, told in (
        ("manifest digest", golden.image.digest),
        ("signature identity", f"SANDBOX, no real Sigstore: {golden.publisher.sandbox.identity}"),
        ("log inclusion", "entry "),
        ("predicate type", "https://slsa.dev/provenance/v1"),
        ("subject digest", golden.image.digest),
        ("builder id", BUILDER_ID),
        ("recipe digest", recipe_digest(RECIPE)),
    ):
        assert any(line.startswith("ok") and name in line and told in line for line in out.splitlines()), name
    assert "trust from the command line" in out
    assert "SANDBOX signature: for trying things out" in out
    assert out.rstrip().endswith(f"verified: {golden.reference}")


def test_a_tag_is_resolved_to_its_digest_first(golden: Golden, capsys: Output) -> None:
    assert main(["verify", f"{golden.repository}:latest", *golden.trust(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verified"] is True
    assert told["digest"] == golden.image.digest


def test_for_machines_everything_is_in_the_json(golden: Golden, capsys: Output) -> None:
    assert main(["verify", golden.reference, *golden.trust(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["sandbox"], told["builderId"], told["recipeDigest"]) == (True, BUILDER_ID, recipe_digest(RECIPE))
    assert told["trust"]["fromServer"] is False
    assert all(check["passed"] for check in told["checks"])
    assert told["logIndex"] >= 1


def test_trust_comes_from_the_client_configuration(golden: Golden, capsys: Output, tmp_path: Path) -> None:
    sandbox = golden.publisher.sandbox
    (tmp_path / ".goldsmith").mkdir()
    (tmp_path / ".goldsmith" / "root.json").write_bytes(sandbox.trusted_root.read_bytes())
    file = tmp_path / ".goldsmith" / "client.json"
    file.write_text(json.dumps({"trustedRoot": "root.json", "identity": sandbox.identity, "issuer": sandbox.issuer}))
    file.chmod(0o600)
    assert main(["verify", golden.reference]) == 0
    assert f"trust from {file}" in capsys.readouterr().out
    assert main(["verify", golden.reference, "--identity", "https://sandbox.invalid/other"]) == 2


def test_trust_from_the_server_is_said_aloud(golden: Golden, asked: Api, capsys: Output) -> None:
    assert main(["verify", golden.reference]) == 0
    out = capsys.readouterr().out
    assert f"Trust comes from {asked.url}/v1/trust: the server that is checked says itself whom to trust." in out
    assert main(["verify", golden.reference, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trust"]["fromServer"] is True


def test_a_bare_digest_is_asked_of_the_api(golden: Golden, asked: Api, capsys: Output) -> None:
    assert main(["verify", golden.image.digest, *golden.trust()]) == 0
    out = capsys.readouterr().out
    assert "subject digest" in out
    assert "manifest digest" not in out


def test_half_a_trust_is_none(golden: Golden, capsys: Output) -> None:
    assert main(["verify", golden.reference, "--identity", "me"]) == 1
    assert "--trusted-root and --issuer is missing (the three go together" in capsys.readouterr().err


@pytest.mark.parametrize("changed", [{"identity": "https://sandbox.invalid/other"}, {"issuer": "http://other.example"}])
def test_another_identity_is_refused(golden: Golden, capsys: Output, changed: dict[str, str]) -> None:
    assert main(["verify", golden.reference, *golden.trust(**changed)]) == 2
    out = capsys.readouterr().out
    assert "FAILED  signature identity" in out
    assert f"NOT verified: {golden.reference}" in out


def test_another_sigstore_is_refused(golden: Golden, foreign: Sandbox, capsys: Output) -> None:
    assert main(["verify", golden.reference, *golden.trust(**{"trusted-root": str(foreign.trusted_root)})]) == 2
    assert "FAILED  signature" in capsys.readouterr().out


def test_an_image_without_a_signature_is_refused(publisher: Publisher, capsys: Output) -> None:
    unsigned = publisher.image("unsigned")
    assert main(["verify", unsigned.reference, *unsigned.trust()]) == 2
    assert "no signature is attached" in capsys.readouterr().out


def test_the_signature_of_another_image_is_refused(golden: Golden, publisher: Publisher, capsys: Output) -> None:
    other = publisher.image("other")
    other.attach_bundle(golden.sign())
    assert main(["verify", other.reference, *other.trust()]) == 2
    out = capsys.readouterr().out
    assert "FAILED  subject digest" in out
    assert "does not speak of" in out


def test_a_signature_alone_is_no_provenance(publisher: Publisher, capsys: Output) -> None:
    signed = publisher.image("signed")
    signed.sign(Statement.signature(str(signed.repository), signed.image.digest))
    assert main(["verify", signed.reference, *signed.trust()]) == 2
    assert "FAILED  predicate type" in capsys.readouterr().out


def test_an_altered_statement_is_refused(publisher: Publisher, capsys: Output) -> None:
    altered = publisher.image("altered")
    bundle = json.loads(publisher.sandbox.signer().sign(altered.statement()).bundle)
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b"goldsmith.example", b"attackers.example")
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    altered.attach_bundle(json.dumps(bundle).encode())
    assert main(["verify", altered.reference, *altered.trust()]) == 2


def test_a_recipe_that_is_not_the_one_of_its_digest_is_refused(publisher: Publisher, capsys: Output) -> None:
    lying = publisher.image("lying")
    lying.sign(lying.statement(recipe_digest_told="sha256:" + "00" * 32))
    assert main(["verify", lying.reference, *lying.trust()]) == 2
    assert "FAILED  recipe digest" in capsys.readouterr().out


def test_rubbish_beside_an_image_does_not_hide_its_signature(publisher: Publisher, capsys: Output) -> None:
    crowded = publisher.image("crowded")
    crowded.attach_bundle(b"rubbish")
    crowded.attach_bundle(b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}')
    crowded.sign()
    assert main(["verify", crowded.reference, *crowded.trust()]) == 0
    out = capsys.readouterr().out
    assert out.count("ignored another bundle: ") == 2
    assert "verified: " in out


def test_a_list_of_referrers_that_was_altered_proves_nothing(publisher: Publisher, capsys: Output) -> None:
    image, other = publisher.image("listed"), publisher.image("unlisted")
    image.sign()
    other.sign()
    manifests, listing = publisher.client.manifests, f"sha256-{hex_of(image.image.digest)}"
    (own,) = publisher.client.referrers.of(image.repository, image.image.digest)
    (others,) = publisher.client.referrers.of(other.repository, other.image.digest)
    for blob in parse_manifest(manifests.get(other.repository.at(others.digest)).data).layers:
        publisher.client.blobs.push_bytes(
            image.repository, publisher.client.blobs.fetch(other.repository, blob, limit=10**6), blob.media_type
        )
    manifests.put(image.repository.at(others.digest), manifests.get(other.repository.at(others.digest)).data)
    for listed, code, why in (
        ((), 2, "no signature is attached"),
        ((others,), 2, "does not speak of"),
        ((own, others), 0, "ignored another bundle"),
    ):
        manifests.put(image.repository.tagged(listing), Index(manifests=listed).to_bytes())
        assert main(["verify", image.reference, *image.trust()]) == code
        told = capsys.readouterr()
        assert why in told.out + told.err, (listed, told)
    manifests.delete(image.repository.at(own.digest))
    assert main(["verify", image.reference, *image.trust()]) == 2
    assert "is not in the registry" in capsys.readouterr().out


def test_a_registry_that_holds_something_else_under_the_digest_is_found_out(
    publisher: Publisher, registry_directory: Path, capsys: Output
) -> None:
    swapped = publisher.image("swapped")
    swapped.sign()
    digest = hex_of(swapped.image.digest)
    stored = registry_directory / "storage/docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"
    stored.write_bytes(stored.read_bytes() + b"\n")
    assert main(["verify", swapped.reference, *swapped.trust()]) == 2
    assert "gave sha256:" in capsys.readouterr().err


def test_what_is_not_there_could_not_be_looked_at(golden: Golden, capsys: Output) -> None:
    assert main(["verify", f"{golden.repository}:none", *golden.trust()]) == 1
    assert "is not in the registry" in capsys.readouterr().err
    assert main(["verify", golden.reference, *golden.trust(**{"trusted-root": "nowhere.json"})]) == 1
    assert "nowhere.json is not a usable trusted root: No such file" in capsys.readouterr().err


# Provenance


def test_the_bundle_is_written_byte_for_byte(golden: Golden, asked: Api, capsys: Output, tmp_path: Path) -> None:
    file = tmp_path / "bundle.json"
    assert main(["provenance", golden.image.digest, "--output", str(file)]) == 0
    assert golden.publisher.sandbox.verify(file.read_bytes(), digest=golden.image.digest).sandbox
    assert main(["provenance", golden.image.digest]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(file.read_bytes())


def test_the_statement_is_decoded_and_said_to_be_unverified(golden: Golden, asked: Api, capsys: Output) -> None:
    assert main(["provenance", golden.image.digest, "--statement"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == golden.statement().model_dump(mode="json", by_alias=True)
    assert "has not been verified" in told.err


def test_a_digest_that_was_never_released(asked: Api, capsys: Output) -> None:
    assert main(["provenance", "sha256:" + "00" * 32]) == 1
    assert "was released here" in capsys.readouterr().err


# Compare


def test_an_untouched_container_shows_expected_changes_only(golden: Golden, container: str, capsys: Output) -> None:
    assert main(["compare", golden.reference, container, *golden.trust()]) == 0
    out = capsys.readouterr().out
    assert f"{container}: expected changes only" in out
    assert "written by the container engine: " in out
    assert "/.dockerenv" in out
    assert "found       0 drifted, " in out
    assert "does not say that this container was made from" not in out


def test_the_image_is_known_by_its_looks_in_either_order(golden: Golden, container: str, capsys: Output) -> None:
    assert main(["compare", container, golden.reference, *golden.trust()]) == 0
    assert f"{container}: expected changes only" in capsys.readouterr().out


def test_a_changed_container_is_told_by_gravity_with_a_reason(
    golden: Golden, container: str, engine: docker.DockerClient, capsys: Output
) -> None:
    engine.containers.get(container).put_archive("/", archive({"etc/conf": b"a=2\n"}, mode=0o644))
    assert main(["compare", golden.reference, container, *golden.trust()]) == 2
    out = capsys.readouterr().out
    assert f"{container}: DRIFTED from its golden image" in out
    engine.containers.get(container).put_archive("/", archive({"tmp/evil\x1b[2J": b"x"}))
    assert main(["compare", golden.reference, container, *golden.trust()]) == 3
    out = capsys.readouterr().out
    assert out.index("CRITICAL  1") < out.index(r"/tmp/evil\x1b[2J  added") < out.index("/etc/conf")
    assert f"4 bytes sha256:{hex_of(digest_of(b'a=1' + bytes([10])))[:16]}… -> 4 bytes sha256:" in out
    assert "[temporary.executable]" in out
    assert f"{container}: SUSPICIOUS" in out
    assert main(["compare", golden.reference, container, *golden.trust(), "--json"]) == 3
    told = Report.model_validate_json(capsys.readouterr().out)
    assert told.verdict == "suspicious"
    assert {one.path for one in told.findings} >= {"/etc/conf", r"/tmp/evil\x1b[2J"}
    assert told.subject.of_this_image is True
    assert told.golden.verified.identity == golden.publisher.sandbox.identity


def test_what_is_written_where_the_signed_recipe_says_so_is_expected_and_programs_there_are_not(
    golden: Golden, container: str, engine: docker.DockerClient, capsys: Output
) -> None:
    files = engine.containers.get(container)
    files.put_archive("/", archive({"var/cache/tool/page": b"x"}, mode=0o644))
    files.put_archive("/", archive({"var/cache/tool/program": b"x"}))
    main(["compare", golden.reference, container, *golden.trust(), "--json"])
    told = Report.model_validate_json(capsys.readouterr().out)
    reasons = {one.path: one.expected for one in told.expected}
    assert reasons["/var/cache/tool/page"] == "the recipe says that containers write here"
    assert "/var/cache/tool/program" in {one.path for one in told.findings}


def test_what_is_mounted_over_the_image_is_said_not_to_be_looked_at(
    golden: Golden, engine: docker.DockerClient, container: str, capsys: Output
) -> None:
    made = engine.containers.create(golden.reference, volumes=["/data"], network_mode="none")
    try:
        main(["compare", golden.reference, made.name, *golden.trust()])
    finally:
        made.remove(force=True, v=True)
    out = capsys.readouterr().out
    assert "NOT looked at: what is mounted at /data (volume)" in out
    assert "configuration.mount.volume" in out


def test_how_a_container_was_started_is_judged_too(golden: Golden, engine: docker.DockerClient, capsys: Output) -> None:
    engine.images.pull(golden.reference)
    made = engine.containers.create(
        golden.reference, ["/bin/sh"], privileged=True, pid_mode="host", environment={"TOKEN": "hunter2"},
        volumes={"/var/run/docker.sock": {"bind": "/var/run/docker.sock", "mode": "rw"}}, network_mode="none",
    )  # fmt: skip
    try:
        assert main(["compare", golden.reference, made.name, *golden.trust(), "--json"]) == 3
    finally:
        made.remove(force=True)
    out = capsys.readouterr().out
    told = Report.model_validate_json(out)
    assert {one.rule.removeprefix("configuration."): one.severity for one in told.configuration} == {
        "privileged": "critical",
        "mount.engine": "critical",
        "namespace.pid": "high",
        "command": "medium",
        "environment": "low",
    }
    assert "hunter2" not in out


def test_a_digest_alone_compares_with_what_the_api_has(
    golden: Golden, asked: Api, container: str, capsys: Output
) -> None:
    assert main(["compare", golden.image.digest, container, *golden.trust()]) == 0
    out = capsys.readouterr().out
    assert "expected changes only" in out
    assert "not everything was looked at" not in out


def test_a_config_of_the_api_that_is_not_the_images_is_refused_by_a_client_of_a_server_made_up_to_lie(
    golden: Golden, asked: Api, container: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "config", lambda *_: b'{"config": {"User": "root"}}')
    assert main(["compare", golden.image.digest, container, *golden.trust()]) == 1
    assert f"not the one of {golden.image.digest}" in capsys.readouterr().err


def test_an_inventory_of_the_api_that_is_not_the_signed_one_is_not_used(
    golden: Golden, asked: Api, publisher: Publisher, container: str, capsys: Output
) -> None:
    worker = asked.worker(asked.newest("web"))
    worker.attach(Kind.INVENTORY, INVENTORY_TYPE, publisher.image("swapped-in-the-api").inventory)
    try:
        assert main(["compare", golden.image.digest, container, *golden.trust()]) == 1
    finally:
        worker.attach(Kind.INVENTORY, INVENTORY_TYPE, golden.inventory)
    told = capsys.readouterr()
    assert f"where the provenance names {digest_of(golden.inventory)}" in told.err
    assert "identical" not in told.out


def test_another_image_than_the_containers_is_drift_and_said(
    publisher: Publisher, container: str, capsys: Output
) -> None:
    other = publisher.image("another")
    other.sign()
    other.attach_inventory()
    assert main(["compare", other.reference, container, *other.trust()]) == 3
    out = capsys.readouterr().out
    assert "does not say that this container was made from that image" in out
    assert "[configuration.image]" in out


def test_without_a_provenance_that_verifies_nothing_is_compared(golden: Golden, container: str, capsys: Output) -> None:
    assert main(["compare", golden.reference, container, *golden.trust(identity="https://sandbox.invalid/x")]) == 1
    told = capsys.readouterr()
    assert "does not verify" in told.err
    assert "identical" not in told.out


def test_an_inventory_that_was_swapped_is_not_used(publisher: Publisher, container: str, capsys: Output) -> None:
    swapped = publisher.image("inventory")
    swapped.sign()
    swapped.attach_inventory(publisher.image("inventory-of-another").inventory)
    assert main(["compare", swapped.reference, container, *swapped.trust()]) == 1
    assert "has no inventory sha256:" in capsys.readouterr().err


def test_no_engine_and_no_such_container_are_told_apart(golden: Golden, capsys: Output) -> None:
    line = [golden.reference, "golden-nothing", *golden.trust()]
    assert main(["compare", *line, "--engine", "unix:///nowhere.sock"]) == 1
    assert "no Docker Engine answers at unix:///nowhere.sock (start it, or name another" in capsys.readouterr().err
    assert main(["compare", *line, "--engine", f"tcp://127.0.0.1:{free_port()}"]) == 1
    assert "no Docker Engine answers" in capsys.readouterr().err
    assert main(["compare", *line]) == 1
    assert "the engine has no container 'golden-nothing'" in capsys.readouterr().err


# The sample database


def test_the_sample_database_is_pushed_as_trivy_pulls_it(registry: str, publisher: Publisher, capsys: Output) -> None:
    assert main(["admin", "sample-database", "--push", f"{registry}/goldsmith/trivy-db"]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == f"GOLDSMITH_TRIVY_DATABASE={registry}/goldsmith/trivy-db:{TAG}"
    assert "SAMPLE" in told.err
    repository = Repository(registry, "goldsmith/trivy-db")
    manifest = json.loads(publisher.client.manifests.get(repository.tagged(TAG)).data)
    assert manifest["layers"][0]["mediaType"] == "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
    assert publisher.client.blobs.size(repository, manifest["layers"][0]["digest"])


def test_the_installed_command_verifies_too(golden: Golden) -> None:
    program = Path(sys.executable).parent / "goldsmith"
    ended = subprocess.run(
        [program, "verify", golden.reference, *golden.trust()], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout
