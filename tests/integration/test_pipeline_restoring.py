"""A base is put back from what is kept beside the image built on it, for one rebuild and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.image.digests import digest_of
from builder.image.documents import CONFIG, Descriptor, ImageConfig, Manifest, RootFS
from builder.image.entry import Entry, EntryType
from builder.image.layer import write_layer
from builder.image.tarwriter import tar_stream
from builder.pipeline.journal import Journal
from builder.pipeline.materials import KeptBase, Materials
from builder.pipeline.restoring import restored_base
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.staging import take_back
from builder.pipeline.watch import Watch
from builder.recipes.model import Recipe
from builder.recipes.reading import recipe_from_data
from builder.store import builds
from builder.store.builds import LeaseLost, Submission
from builder.store.states import REBUILD, Purpose
from tests.unit.locks import lock, on_image
from tests.unit.stored import PROBLEM

pytest_plugins = ["tests.integration.pipeline_services"]

IMAGE = "golden/web"


def recipe() -> Recipe:
    spec = {"base": {"recipe": "debian"}, "publish": {"repository": IMAGE}}
    return recipe_from_data({"apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": "web"}, "spec": spec})


@pytest.fixture
def materials(services: Services, tmp_path: Path) -> Materials:
    """Of an image that has its base's layer; the base itself is nowhere any more."""
    entry = Entry(b"greeting", EntryType.FILE, 0o644, 0, 0, size=5)
    layer = write_layer(tar_stream([entry], lambda _: iter([b"hello"]), epoch=0), tmp_path / "layer.gz")
    descriptor = Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size)
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=(layer.diff_id,)))
    base = Manifest(
        config=Descriptor(media_type=CONFIG, digest=digest_of(config.to_bytes()), size=len(config.to_bytes())),
        layers=(descriptor,),
    )
    child = config.model_copy(update={"author": "the child"}).to_bytes()
    manifest = base.model_copy(
        update={"config": Descriptor(media_type=CONFIG, digest=digest_of(child), size=len(child))}
    )
    blobs: dict[str, Path | bytes] = {layer.digest: layer.path, digest_of(child): child}
    services.registry.images.push(services.released(IMAGE), manifest, blobs)
    kept = KeptBase(base, config, base.to_bytes(), config.to_bytes())
    return Materials(on_image(base.descriptor().digest, "debian"), kept)


@pytest.fixture
def task(services: Services, materials: Materials) -> Task:
    digest = "sha256:" + "1" * 64
    asked = Submission("web", digest, "{}", "release", "ci", purpose=Purpose.REBUILD, subject=digest)
    with services.database.write() as session:
        build = builds.submit(session, asked)
        claim = builds.claim(session, build.id, REBUILD, "w", 60)
        assert claim
    journal = Journal(services.database, claim, 4096)
    return Task(build, recipe(), None, claim, journal, Watch(services.database, claim, journal, 60))


def is_there(services: Services, task: Task, materials: Materials) -> bool:
    assert materials.base is not None
    place = services.staging(f"rebuilds/{task.build.id}")
    return services.registry.manifests.find(place.at(digest_of(materials.base.manifest_bytes))) is not None


def noted(services: Services, task: Task) -> str | None:
    with services.database.read() as session:
        return builds.get(session, task.build.id).staging_repository


def test_it_is_there_as_it_was_and_gone_when_the_rebuild_is_done(
    services: Services, task: Task, materials: Materials, tmp_path: Path
) -> None:
    with restored_base(services, task, materials, services.released(IMAGE), tmp_path) as base:
        assert base is not None
        assert materials.base is not None
        assert base.digest == materials.lock.base.image_digest
        assert (base.manifest, base.config, base.origin) == (materials.base.manifest, materials.base.config, None)
        assert [entry.path for entry in base.entries] == [b"greeting"]
        fetched = services.registry.manifests.get(base.repository.at(base.digest))
        assert fetched.data == materials.base.manifest_bytes
        assert noted(services, task) == f"rebuilds/{task.build.id}"
    assert not is_there(services, task, materials)
    assert noted(services, task) is None


def test_each_rebuild_has_one_of_its_own(services: Services, task: Task, materials: Materials, tmp_path: Path) -> None:
    with restored_base(services, task, materials, services.released(IMAGE), tmp_path) as base:
        assert base is not None
        assert task.build.id in base.reference


def test_after_a_failure_it_stays_noted_for_whoever_cleans_up(
    services: Services, task: Task, materials: Materials, tmp_path: Path
) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        restored_base(services, task, materials, services.released(IMAGE), tmp_path),
    ):
        raise ZeroDivisionError
    assert noted(services, task) == f"rebuilds/{task.build.id}"
    take_back(services, task.build.id)
    assert not is_there(services, task, materials)


def test_a_worker_that_lost_the_build_takes_nothing_from_the_one_that_has_it(
    services: Services, task: Task, materials: Materials, tmp_path: Path
) -> None:
    where = services.released(IMAGE)
    (tmp_path / "second").mkdir()
    with services.database.write() as session:
        builds.retry(session, builds.get(session, task.build.id), PROBLEM)
        claim = builds.claim(session, task.build.id, REBUILD, "second", 60)
        assert claim
    second = Task(task.build, task.recipe, None, claim, task.journal, task.watch)
    with restored_base(services, second, materials, where, tmp_path / "second"):
        with pytest.raises(LeaseLost), restored_base(services, task, materials, where, tmp_path):
            pass
        assert is_there(services, task, materials)


def test_a_worker_that_loses_the_build_half_way_takes_nothing_either(
    services: Services, task: Task, materials: Materials, tmp_path: Path
) -> None:
    with pytest.raises(LeaseLost), restored_base(services, task, materials, services.released(IMAGE), tmp_path):
        raise LeaseLost("the build has gone to another worker")
    assert is_there(services, task, materials)


def test_a_bootstrapped_base_is_none(services: Services, task: Task, tmp_path: Path) -> None:
    with restored_base(services, task, Materials(lock(), None), services.released(IMAGE), tmp_path) as base:
        assert base is None
    assert noted(services, task) is None
