"""Comparisons from the request to the record: a real registry, a real signature, the stage as its worker runs it."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from fastapi.testclient import TestClient
from sqlalchemy import select

from builder.api.app import create_app
from builder.forensics.report import Report
from builder.image.digests import digest_of
from builder.image.inventory import write_inventory
from builder.pipeline.compare import CompareStage
from builder.pipeline.services import Services
from builder.pipeline.stage import run_stage
from builder.pipeline.uploads import REPOSITORY
from builder.recipes.reading import canonical_json, recipe_digest
from builder.settings import Settings
from builder.store import builds, keys
from builder.store.builds import Submission
from builder.store.schema import Record, Release
from builder.store.states import COMPARE, Purpose, State
from tests.integration.published import RECIPE, Golden, Publisher, archive, publishing
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox
from tests.unit.hostile_archives import END, file, header
from tests.unit.stored import PROBLEM
from workers.dispatcher import sweep

INVENTORY = "application/vnd.goldsmith.inventory.v1"
TAR = "application/x-tar"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def publisher(storage: Path, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with (
        running_registry(storage) as address,
        publishing(address, sandbox, tmp_path_factory.mktemp("publisher")) as made,
    ):
        yield made


@dataclass
class World:
    """A service over the registry, in which golden images were released, and its compare worker."""

    services: Services
    client: TestClient
    golden: Golden

    @property
    def digest(self) -> str:
        return self.golden.image.digest

    def asked(self, answer: httpx.Response) -> str:
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/comparisons/{answer.json()['id']}"
        with self.services.database.read() as session:
            assert builds.get(session, answer.json()["id"]).team == "soc"
        return str(answer.json()["id"])

    def upload(self, content: bytes, media_type: str, name: str | None = None) -> str:
        query = {"golden": self.digest} | ({"name": name} if name else {})
        headers = {"Content-Type": media_type}
        return self.asked(self.client.post("/v1/comparisons", params=query, content=content, headers=headers))

    def name(self, image: str) -> str:
        asked = {"golden": self.digest, "subject": {"image": image}}
        return self.asked(self.client.post("/v1/comparisons", json=asked))

    def work(self, build_id: str) -> dict[str, Any]:
        stage = CompareStage(self.services)
        run_stage(
            self.services.database,
            COMPARE,
            build_id,
            stage.work,
            stage.clean_up,
            lease_seconds=30,
            log_limit=100_000,
            maximum_attempts=1,
        )
        view: dict[str, Any] = self.client.get(f"/v1/comparisons/{build_id}").raise_for_status().json()
        return view

    def report(self, build_id: str) -> Report:
        return Report.model_validate_json(self.client.get(f"/v1/comparisons/{build_id}/report").content)

    def staged(self, content: bytes) -> int | None:
        return self.services.registry.blobs.size(self.services.staging(REPOSITORY), digest_of(content))

    def left_on_disk(self) -> list[str]:
        state = self.services.settings.state_directory
        return [str(path) for name in ("spool", "uploads") for path in (state / name).rglob("*")]

    def records(self) -> list[dict[str, Any]]:
        with self.services.database.read() as session:
            return [json.loads(row.body) for row in session.scalars(select(Record).order_by(Record.number))]


@pytest.fixture
def golden(publisher: Publisher) -> Golden:
    made = publisher.image(f"image-{sum(1 for _ in publisher.directory.iterdir())}")
    made.sign()
    made.attach_inventory()
    return made


@pytest.fixture
def world(golden: Golden, sandbox: Sandbox, tmp_path: Path) -> Iterator[World]:
    settings = Settings(
        database_url=f"sqlite:///{tmp_path / 'goldsmith.db'}",
        state_directory=tmp_path / "state",
        recipes_directory=tmp_path,
        registry=golden.repository.registry,
        sigstore_trust_config=sandbox.client_trust_config,
        signer_identity=sandbox.identity,
        signer_issuer=sandbox.issuer,
        image_bytes=1024**2 * 2,
    )
    app = create_app(settings)
    with TestClient(app) as client:
        services: Services = app.state.services
        with services.database.write() as session:
            client.headers["Authorization"] = f"Bearer {keys.create_key(session, 'responder', team='soc')}"
            recipe = canonical_json(RECIPE).decode()
            build = builds.submit(session, Submission("web", recipe_digest(RECIPE), recipe, "request", "ci"))
            build.state = State.RELEASED
            session.add(
                Release(
                    build_id=build.id, digest=golden.image.digest, recipe_name="web", recipe_digest=build.recipe_digest,
                    registry_host=settings.registry, repository=golden.repository.name, tags=[],
                    released_at=time.time(),
                )
            )  # fmt: skip
        yield World(services, client, golden)


def root(golden: Golden, **changed: bytes) -> bytes:
    """The golden root file system as a tar archive; `changed` are files by their last name, added or other."""
    tool = golden.repository.name.removeprefix("golden/").encode()
    files = {"etc/conf": b"a=1\n", "usr/bin/tool": tool, **{f"etc/{name}": data for name, data in changed.items()}}
    return archive(files)


class TestOutcome:
    def test_a_drifted_archive_is_compared_path_by_path_and_nothing_of_it_is_kept(self, world: World) -> None:
        content = root(world.golden, conf=b"a=2\n", added=b"new\n")
        build_id = world.upload(content, TAR, "host-7.tar")
        assert world.staged(content) == len(content)
        view = world.work(build_id)
        assert (view["state"], view["problem"]) == ("compared", None)
        assert [step["name"] for step in view["steps"]] == ["verify", "fetch", "compare", "record"]
        outcome = view["outcome"]
        assert (outcome["verdict"], outcome["complete"], outcome["totals"]["findings"]) == ("suspicious", True, 2)
        report = world.report(build_id)
        assert {one.path for one in report.findings} == {"/etc/conf", "/etc/added"}
        assert (report.subject.name, report.golden.digest) == ("host-7.tar", world.digest)
        assert report.golden.verified.identity == world.services.settings.signer_identity
        assert world.staged(content) is None
        assert world.left_on_disk() == []

    @pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
    def test_an_identical_archive_is_identical_however_it_is_compressed(self, world: World, suffix: str) -> None:
        pack = {"": bytes, "+gzip": gzip.compress, "+zstd": zstandard.compress}[suffix]
        build_id = world.upload(pack(root(world.golden)), TAR + suffix)
        assert world.work(build_id)["outcome"]["verdict"] == "identical"
        assert world.report(build_id).subject.name == "the uploaded archive"

    def test_an_identical_inventory_is_identical(self, world: World) -> None:
        build_id = world.upload(world.golden.inventory, f"{INVENTORY}+zstd", "host-8")
        view = world.work(build_id)
        assert (view["state"], view["outcome"]["verdict"]) == ("compared", "identical")
        assert view["subject"] == {
            "kind": "inventory", "digest": digest_of(world.golden.inventory), "name": "host-8",
            "size": len(world.golden.inventory),
        }  # fmt: skip
        assert world.staged(world.golden.inventory) is None

    def test_an_image_by_its_tag_is_what_the_tag_meant_when_it_was_asked(
        self, world: World, publisher: Publisher
    ) -> None:
        other = publisher.image(f"other-{world.golden.repository.name.rpartition('/')[2]}")
        build_id = world.name(f"{other.repository}:latest")
        view = world.work(build_id)
        assert (view["state"], view["subject"]["digest"]) == ("compared", other.image.digest)
        report = world.report(build_id)
        assert [one.path for one in report.findings] == ["/usr/bin/tool"]
        assert (report.subject.of_this_image, report.configuration_compared) == (False, True)
        assert world.work(world.name(world.golden.reference))["outcome"]["verdict"] == "identical"

    def test_is_recorded_in_the_ledger_beside_releases_which_it_does_not_stand_in_for(self, world: World) -> None:
        build_id = world.upload(root(world.golden, conf=b"a=2\n"), TAR, "host-9")
        outcome = world.work(build_id)["outcome"]
        (record,) = world.records()
        assert (record["format"], record["buildId"]) == ("goldsmith-comparison-record/v1", build_id)
        assert (record["imageDigest"], record["requester"]) == (world.digest, "responder")
        assert (record["verdict"], record["reportDigest"]) == (outcome["verdict"], outcome["reportDigest"])
        assert record["subject"]["name"] == "host-9"
        assert record["requested"] <= record["started"] <= record["finished"] <= record["recorded"]
        answer = world.client.get(f"/v1/comparisons/{build_id}/report")
        assert (
            digest_of(answer.content) == outcome["reportDigest"] == answer.headers["etag"].removeprefix("W/").strip('"')
        )
        assert world.client.get(f"/v1/images/{world.digest}/record").status_code == 404

    def test_a_worker_lost_after_the_record_leaves_one_record(self, world: World) -> None:
        build_id = world.upload(root(world.golden), TAR)
        stage = CompareStage(world.services)

        def lost(task: Any) -> dict[str, Any]:
            stage.work(task)
            with world.services.database.write() as session:
                builds.retry(session, builds.get(session, build_id), PROBLEM)
            return {}

        run_stage(
            world.services.database,
            COMPARE,
            build_id,
            lost,
            stage.clean_up,
            lease_seconds=30,
            log_limit=100_000,
            maximum_attempts=1,
        )
        assert world.client.get(f"/v1/comparisons/{build_id}").json()["state"] == "queued"
        assert world.client.post(f"/v1/builds/{build_id}/cancel").status_code == 409
        assert world.work(build_id)["state"] == "compared"
        assert len(world.records()) == 1


class TestRefused:
    def failed(self, world: World, build_id: str, slug: str) -> dict[str, Any]:
        view = world.work(build_id)
        assert (view["state"], view["outcome"]) == ("failed", None)
        assert view["problem"]["type"] == f"/problems/{slug}", view["problem"]
        assert world.client.get(f"/v1/comparisons/{build_id}/report").status_code == 409
        assert world.records() == []
        assert world.left_on_disk() == []
        problem: dict[str, Any] = view["problem"]
        return problem

    @pytest.mark.parametrize(
        ("content", "slug"),
        [
            (file(b"etc/conf", b"a") + header(b"../../etc/shadow", size=1) + bytes(512) + END, "archive-invalid"),
            (file(b"etc/conf", b"a"), "archive-invalid"),
            (gzip.compress(file(b"zeros", bytes(4 * 1024**2)) + END), "archive-too-large"),
            (gzip.compress(END)[:-4], "compression-invalid"),
            (b"this is no archive".ljust(512), "archive-invalid"),
        ],
        ids=["climbing", "cut", "bomb", "damaged", "text"],
    )
    def test_a_hostile_archive_ends_the_build_with_the_reason(self, world: World, content: bytes, slug: str) -> None:
        self.failed(world, world.upload(content, TAR), slug)
        assert world.staged(content) is None

    def test_an_inventory_that_is_none(self, world: World) -> None:
        self.failed(world, world.upload(b"{}\n", INVENTORY), "inventory-invalid")

    def test_an_inventory_that_leaves_a_line_out(self, world: World) -> None:
        lines = zstandard.decompress(world.golden.inventory, max_output_size=10**7).splitlines(keepends=True)
        self.failed(world, world.upload(b"".join(lines[:-1]), INVENTORY), "inventory-invalid")

    def test_a_golden_image_without_a_signature_is_compared_with_nothing(
        self, world: World, publisher: Publisher
    ) -> None:
        unsigned = publisher.image(f"unsigned-{time.monotonic_ns()}")
        unsigned.attach_inventory()
        self.release(world, unsigned)
        self.failed(world, world.upload(root(unsigned), TAR), "verification-failed")

    def test_another_inventory_beside_the_golden_image_than_the_signed_one(
        self, world: World, publisher: Publisher, tmp_path: Path
    ) -> None:
        made = publisher.image(f"swapped-{time.monotonic_ns()}")
        made.sign()
        made.attach_inventory(write_inventory(iter(()), tmp_path / "empty").path.read_bytes())
        self.release(world, made)
        problem = self.failed(world, world.upload(root(made), TAR), "not-compared")
        assert digest_of(made.inventory) in problem["detail"]

    def test_a_golden_inventory_that_was_altered_in_the_registrys_storage(self, world: World, storage: Path) -> None:
        content = root(world.golden)
        build_id = world.upload(content, TAR)
        name = digest_of(world.golden.inventory).removeprefix("sha256:")
        (data,) = storage.glob(f"storage/docker/registry/v2/blobs/sha256/??/{name}/data")
        altered = bytearray(world.golden.inventory)
        altered[-1] ^= 1
        data.write_bytes(altered)
        self.failed(world, build_id, "digest-mismatch")
        assert world.staged(content) is None

    def test_an_upload_that_is_gone(self, world: World) -> None:
        content = root(world.golden)
        build_id = world.upload(content, TAR)
        world.services.registry.blobs.delete(world.services.staging(REPOSITORY), digest_of(content))
        assert "send it again" in self.failed(world, build_id, "not-compared")["hint"]

    def test_an_image_larger_than_images_may_be(self, world: World, publisher: Publisher) -> None:
        world.services.settings = world.services.settings.model_copy(update={"image_bytes": 100})
        self.failed(world, world.name(world.golden.reference), "image-too-large")

    def test_what_takes_too_long(self, world: World) -> None:
        world.services.settings = world.services.settings.model_copy(update={"build_seconds": 0})
        assert "0 seconds" in self.failed(world, world.upload(root(world.golden), TAR), "not-compared")["detail"]

    def test_a_tag_that_is_not_there_is_told_at_once(self, world: World) -> None:
        asked = {"golden": world.digest, "subject": {"image": f"{world.golden.repository}:none"}}
        assert world.client.post("/v1/comparisons", json=asked).json()["type"] == "/problems/manifest-unknown"

    def release(self, world: World, made: Golden) -> None:
        with world.services.database.write() as session:
            release = session.scalars(select(Release)).one()
            release.digest, release.repository = made.image.digest, made.repository.name
        world.golden = made


class TestUploads:
    def test_what_another_comparison_still_needs_stays_until_that_has_ended(self, world: World) -> None:
        content = root(world.golden)
        first, second = world.upload(content, TAR), world.upload(content, TAR)
        assert world.work(first)["state"] == "compared"
        assert world.staged(content) == len(content)
        assert world.work(second)["state"] == "compared"
        assert world.staged(content) is None

    def test_that_of_a_cancelled_comparison_is_swept_up(self, world: World) -> None:
        content = root(world.golden)
        build_id = world.upload(content, TAR)
        assert world.client.post(f"/v1/builds/{build_id}/cancel").json()["state"] == "cancelled"
        assert world.staged(content) == len(content)
        sweep(world.services)
        assert world.staged(content) is None
        with world.services.database.read() as session:
            assert builds.get(session, build_id).staging_repository is None

    def test_are_for_workers_of_their_queue_and_listed_with_their_image(self, world: World) -> None:
        build_id = world.upload(root(world.golden), TAR)
        with world.services.database.read() as session:
            assert builds.get(session, build_id).purpose == Purpose.COMPARE
        world.work(build_id)
        page = world.client.get(f"/v1/images/{world.digest}/comparisons").json()
        assert [one["id"] for one in page["comparisons"]] == [build_id]
        assert world.client.get(f"/v1/images/{world.digest}/rebuilds").json()["builds"] == []
        (listed,) = world.client.get("/v1/builds?state=compared").json()["builds"]
        assert (listed["purpose"], listed["comparison"]["verdict"]) == ("compare", "identical")
