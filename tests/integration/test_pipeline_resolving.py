"""An image that somebody else made is a base, and what it says of itself is never believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.image.digests import digest_of
from builder.image.documents import CONFIG, Descriptor, ImageConfig, Manifest, RootFS
from builder.pipeline.journal import Journal
from builder.pipeline.preparing import ArchitectureMismatch
from builder.pipeline.resolving import resolve
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.watch import Watch
from builder.recipes.reading import recipe_from_data
from builder.registry.reference import Repository
from builder.store import builds
from builder.store.builds import Submission
from builder.store.states import BUILD

pytest_plugins = ["tests.integration.pipeline_services"]


def task_on(services: Services, base: str) -> Task:
    spec = {"base": {"image": base}, "packages": ["tini"], "publish": {"repository": "golden/web"}}
    recipe = recipe_from_data(
        {"apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": "web"}, "spec": spec}
    )
    with services.database.write() as session:
        build = builds.submit(session, Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci"))
        claim = builds.claim(session, build.id, BUILD, "w", 60)
        assert claim
    journal = Journal(services.database, claim, 4096)
    return Task(build, recipe, None, claim, journal, Watch(services.database, claim, journal, 60))


@pytest.mark.parametrize(
    "architecture",
    ["riscv64", "../../../tmp/x", 'amd64"; Dir::State::Lists "/var/tmp"; APT::Update::Pre-Invoke {"touch /x"}; X "'],
)
def test_an_architecture_that_is_not_the_engines_is_refused_before_apt_hears_of_it(
    services: Services, registry: str, tmp_path: Path, architecture: str
) -> None:
    config = ImageConfig(architecture=architecture, os="linux", rootfs=RootFS(diff_ids=())).to_bytes()
    manifest = Manifest(config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)), layers=())
    place = Repository(registry, "somebody/base")
    digest = services.registry.images.push(place, manifest, {digest_of(config): config}).digest
    (tmp_path / "spool").mkdir()
    with pytest.raises(ArchitectureMismatch, match="this worker's engine is"):
        resolve(services, task_on(services, f"{place}@{digest}"), tmp_path / "spool")
    assert list(services.archive_directory.iterdir()) == []
