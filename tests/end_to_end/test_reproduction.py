"""The first promise: an image is rebuilt bit for bit from its signed record, anywhere, at any time, by anybody."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from builder.image.documents import parse_manifest
from builder.pipeline.materials import MATERIALS
from builder.pipeline.rebuild import RebuildStage
from builder.pipeline.rebuilding import ImageUnknown, submit_rebuild
from builder.pipeline.services import Services
from builder.pipeline.stage import run_stage
from builder.planning.apt import AptArchive
from builder.planning.debs import DebStore
from builder.planning.mirrors import find_mirrors
from builder.process import run
from builder.registry.artifact import BUNDLE
from builder.registry.attached import attached
from builder.registry.errors import ManifestUnknown
from builder.settings import load_settings
from builder.signing.statement import REPRODUCTION
from builder.store.states import REBUILD
from scripts.stack.services import ROOT
from tests.end_to_end.world import Goldsmith, Released

NOWHERE = "http://127.0.0.1:9"
REBUILDER = "https://sandbox.invalid/rebuilder"


@pytest.fixture(scope="module")
def debian(shipped: Callable[[str], Released]) -> Released:
    return shipped("debian")


@pytest.fixture(scope="module")
def clock_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This host's libfaketime: older than what runs in the images, so it loads there too."""
    work = tmp_path_factory.mktemp("faketime")
    debs = DebStore(work / "debs")
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    archive = AptArchive(
        work / "apt",
        mirrors=find_mirrors(None, None),
        suite=release["VERSION_CODENAME"],
        components=["main"],
        architecture=run(["dpkg", "--print-architecture"], timeout=10).stdout.decode().strip(),
        debs=debs,
        index_seconds=900,
    )
    archive.refresh()
    package = next(one for one in archive.resolve(["libfaketime"]).packages if one.name == "libfaketime")
    run(["dpkg-deb", "--extract", debs.verified(package), work / "root"], timeout=60)
    return next((work / "root").glob("usr/lib/*/faketime/libfaketime.so.1"))


def forget_what_the_engine_keeps(goldsmith: Goldsmith) -> None:
    for image in goldsmith.engine.images.list():
        for reference in (*image.tags, *image.attrs["RepoDigests"]):
            ours = reference.startswith("goldsmith-cache:") and "test" not in reference
            if ours or reference.startswith(f"{goldsmith.stack.registry}/golden/"):
                goldsmith.engine.images.remove(reference, force=True)


def reproductions(goldsmith: Goldsmith, released: Released) -> list[bytes]:
    """The bundles beside an image whose statement is a reproduction."""
    where = goldsmith.repository(released)
    found = attached(goldsmith.registry, where, released.digest, BUNDLE)
    bundles = [goldsmith.registry.blobs.fetch(where, blob) for blob in found.blobs]
    return [bundle for bundle in bundles if statement(bundle)["predicateType"] == REPRODUCTION]


def statement(bundle: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    return found


def test_one_recipe_gives_one_digest_cold_later_elsewhere_and_under_another_clock(
    goldsmith: Goldsmith,
    web: Released,
    debian: Released,
    clock_library: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_CLOCK_LIBRARY", str(clock_library))
    forget_what_the_engine_keeps(goldsmith)
    with goldsmith.worker("build", "tests.end_to_end.another_clock", STATE_DIRECTORY=str(tmp_path / "cold")):
        again = goldsmith.release("debian")
        assert again.digest == debian.digest
        log = goldsmith.log(again.build["id"])
        late = datetime.now(UTC) + timedelta(days=400)
        assert f"the day in the bootstrap: {late:%Y-%m}" in log
        seen = goldsmith.recipe("clock", run=[{"shell": "date -I"}])
        assert f"{late:%Y-%m}" in goldsmith.log(goldsmith.release(seen).build["id"])
        assert goldsmith.release("web").digest == web.digest


@pytest.mark.parametrize("name", ["debian", "python", "web"])
def test_every_shipped_recipe_is_rebuilt_from_kept_materials_alone(
    goldsmith: Goldsmith, shipped: Callable[[str], Released], tmp_path: Path, name: str
) -> None:
    released = shipped(name)
    before = len(reproductions(goldsmith, released))
    with goldsmith.worker(
        "rebuild",
        STATE_DIRECTORY=str(tmp_path / "empty"),
        DEBIAN_MIRROR=NOWHERE,
        DEBIAN_SECURITY_MIRROR=NOWHERE,
    ):
        build = goldsmith.rebuild(released.digest)
    assert build["state"] == "reproduced", build["problem"]
    assert build["rebuild"]["matched"] == {"manifest": True, "config": True, "diffIds": True, "inventory": True}
    assert set(build["rebuild"]["materialsFrom"]) == {"the registry"}
    assert build["rebuild"]["attestation"]["identity"] == REBUILDER
    assert len(reproductions(goldsmith, released)) == before + 1
    goldsmith.wait_until_clean()


def test_all_recipes_that_ship_are_among_these() -> None:
    assert sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")) == ["debian", "python", "web"]


def test_the_stock_sigstore_command_verifies_who_reproduced_it(
    goldsmith: Goldsmith, web: Released, tmp_path: Path
) -> None:
    assert goldsmith.rebuild(web.digest)["state"] == "reproduced"
    bundle = tmp_path / "reproduction.json"
    bundle.write_bytes(reproductions(goldsmith, web)[-1])
    manifest = goldsmith.registry.manifests.get(goldsmith.repository(web).at(web.digest)).data
    artifact = tmp_path / "manifest.json"
    artifact.write_bytes(manifest)

    def verify(identity: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                str(Path(sys.executable).parent / "sigstore"),
                "--trust-config", str(goldsmith.stack.sigstore_state / "client_trust_config.json"),
                "verify", "identity", "--offline", "--bundle", str(bundle), "--cert-identity", identity,
                "--cert-oidc-issuer", goldsmith.stack.sigstore_url, str(artifact),
            ],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    assert verify(REBUILDER).returncode == 0, verify(REBUILDER).stderr
    assert verify("https://sandbox.invalid/goldsmith").returncode != 0
    told = statement(bundle.read_bytes())
    assert told["subject"][0]["digest"] == {"sha256": web.digest.removeprefix("sha256:")}
    assert told["predicate"]["matched"]["manifest"] is True
    assert told["predicate"]["offline"] is True


@contextmanager
def one_flipped_byte(goldsmith: Goldsmith, digest: str) -> Iterator[None]:
    """In the registry's storage, in the middle of a blob."""
    name = digest.removeprefix("sha256:")
    file = goldsmith.stack.state / f"registry/docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    try:
        yield
    finally:
        file.write_bytes(whole)


def test_one_flipped_byte_in_a_kept_material_is_refused_by_name(
    goldsmith: Goldsmith, web: Released, tmp_path: Path
) -> None:
    lock = goldsmith.api.get(f"/v1/builds/{web.build['id']}/lock").json()
    nginx = next(package for package in lock["packages"] if package["name"] == "nginx")
    before = len(reproductions(goldsmith, web))
    with (
        one_flipped_byte(goldsmith, f"sha256:{nginx['sha256']}"),
        goldsmith.worker("rebuild", STATE_DIRECTORY=str(tmp_path / "empty")),
    ):
        build = goldsmith.rebuild(web.digest)
    assert build["state"] == "failed"
    assert build["problem"]["type"] == "/problems/material-corrupt"
    assert f"nginx {nginx['version']}" in build["problem"]["detail"]
    assert len(reproductions(goldsmith, web)) == before
    goldsmith.wait_until_clean()


def test_an_image_that_a_clock_went_into_is_refused_and_the_file_is_named(goldsmith: Goldsmith, web: Released) -> None:
    released = goldsmith.release(goldsmith.recipe("clocked", run=[{"shell": "date +%s%N >/srv/when"}]))
    done = goldsmith.run("rebuild", released.reference, "--offline", check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "/srv/when" in done.stderr
    assert "content" in done.stderr
    assert reproductions(goldsmith, released) == []
    [build] = goldsmith.api.get(f"/v1/images/{released.digest}/rebuilds").json()["builds"]
    assert [one["path"] for one in build["rebuild"]["differences"]] == ["/srv/when"]
    goldsmith.wait_until_clean()


def test_what_another_library_compresses_otherwise_is_compared_by_config_and_diff_ids(
    goldsmith: Goldsmith, web: Released
) -> None:
    with goldsmith.worker("rebuild", "tests.end_to_end.another_compressor"):
        build = goldsmith.rebuild(web.digest)
    assert build["state"] == "reproduced", build["problem"]
    assert build["rebuild"]["matched"] == {"manifest": False, "config": True, "diffIds": True, "inventory": True}
    assert "config and diff IDs match, the manifest does not" in build["rebuild"]["outcome"]
    assert build["rebuild"]["rebuiltDigest"] != web.digest
    told = [statement(bundle)["predicate"] for bundle in reproductions(goldsmith, web)]
    assert any(one["matched"]["manifest"] is False for one in told)


def test_the_command_tells_what_matched_and_who_attests_it(goldsmith: Goldsmith, web: Released) -> None:
    done = goldsmith.run("rebuild", web.reference)
    for promised in ("bit for bit", web.digest, REBUILDER, "SANDBOX", "packages from"):
        assert promised in done.stdout, promised


def test_materials_live_as_long_as_the_image(goldsmith: Goldsmith, web: Released, tmp_path: Path) -> None:
    """The registry's own garbage collector keeps what a manifest beside an image names, and the rebuild still works."""
    config = goldsmith.stack.state / "registry.yml"
    goldsmith.stack.process("registry").stop()
    run(["docker-registry", "garbage-collect", config], timeout=120)
    goldsmith.stack.start("registry")
    [materials] = [one for one in goldsmith.referrers(web) if one.artifact_type == MATERIALS]
    manifest = parse_manifest(goldsmith.registry.manifests.get(goldsmith.repository(web).at(materials.digest)).data)
    for blob in manifest.layers:
        assert goldsmith.registry.blobs.size(goldsmith.repository(web), blob.digest) == blob.size
    with goldsmith.worker("rebuild", STATE_DIRECTORY=str(tmp_path / "empty")):
        assert goldsmith.rebuild(web.digest)["state"] == "reproduced"


def test_a_package_of_many_images_is_stored_once(goldsmith: Goldsmith, web: Released) -> None:
    """Two recipes with the same package: two manifests name it, one blob is there."""
    one, two = (goldsmith.release(goldsmith.recipe(name, packages=["tini"])) for name in ("init-one", "init-two"))
    blobs = goldsmith.stack.state / "registry/docker/registry/v2/blobs/sha256"
    lock = goldsmith.api.get(f"/v1/builds/{one.build['id']}/lock").json()
    [tini] = [package["sha256"] for package in lock["packages"]]
    for released in (one, two):
        assert goldsmith.registry.blobs.size(goldsmith.repository(released), f"sha256:{tini}") is not None
    assert len(list(blobs.glob(f"*/{tini}/data"))) == 1


def test_an_installation_that_never_released_it_rebuilds_an_image_from_the_registry_alone(
    goldsmith: Goldsmith, web: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own database, state and identity; of the first installation it knows the registry and whom to believe."""
    for name, value in goldsmith.stack.environment("rebuild").items():
        if name.startswith("GOLDSMITH_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOLDSMITH_DATABASE_URL", f"sqlite:///{tmp_path / 'other.db'}")
    monkeypatch.setenv("GOLDSMITH_STATE_DIRECTORY", str(tmp_path / "state"))
    services = Services(load_settings())
    services.database.migrate()
    with pytest.raises(ImageUnknown):
        submit_rebuild(services, web.digest, None, requester="auditor", team=None, offline=True)
    with pytest.raises(ManifestUnknown):
        submit_rebuild(services, web.digest, "golden/debian", requester="auditor", team=None, offline=True)
    build = submit_rebuild(services, web.digest, "golden/web", requester="auditor", team=None, offline=True)
    stage = RebuildStage(services)
    outcome = run_stage(
        services.database,
        REBUILD,
        build.id,
        stage.work,
        stage.clean_up,
        lease_seconds=60,
        log_limit=10**7,
        maximum_attempts=1,
    )
    assert outcome is not None
    assert outcome.state == "reproduced"
