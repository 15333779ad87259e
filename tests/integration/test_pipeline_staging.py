"""What a build staged leaves the registry without a trace, unless another build still needs it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.errors import Cancelled
from builder.image.digests import digest_of
from builder.image.documents import CONFIG, EMPTY, Descriptor, ImageConfig, Manifest, RootFS
from builder.pipeline.services import Services
from builder.pipeline.staging import spool_of, staging_of, take_back
from builder.registry.artifact import BUNDLE, bundle_manifest
from builder.registry.errors import RegistryUnavailable
from builder.settings import Settings
from builder.store import attachments, builds
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.schema import Release
from builder.store.states import State
from tests.integration.registry_server import free_port, running_registry
from workers.dispatcher import sweep


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


def services_of(directory: Path, registry: str) -> Services:
    made = Services(
        Settings(state_directory=directory, database_url=f"sqlite:///{directory / 'a.db'}", registry=registry)
    )
    made.database.migrate()
    return made


@pytest.fixture
def services(tmp_path: Path, registry: str) -> Services:
    return services_of(tmp_path, registry)


def build(services: Services) -> str:
    with services.database.write() as session:
        return builds.submit(session, Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci")).id


def stage(services: Services, build_id: str, name: str) -> str:
    """Push an image to staging for a build, as the build stage does."""
    config = ImageConfig(architecture="amd64", os="linux", author=name, rootfs=RootFS(diff_ids=())).to_bytes()
    manifest = Manifest(config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)), layers=())
    services.registry.images.push(services.staging(name), manifest, {manifest.config.digest: config})
    digest = manifest.descriptor().digest
    with services.database.write() as session:
        found = builds.get(session, build_id)
        found.image_digest, found.staging_repository = digest, name
    return digest


def staged(services: Services, name: str, digest: str) -> bool:
    return services.registry.manifests.find(services.staging(name).at(digest)) is not None


def fail(services: Services, build_id: str) -> None:
    with services.database.write() as session:
        builds.end(session, builds.get(session, build_id), State.FAILED, Cancelled("x").problem())


def test_it_is_removed_and_a_second_time_is_no_harm(services: Services) -> None:
    build_id = build(services)
    digest = stage(services, build_id, "one")
    assert staged(services, "one", digest)
    take_back(services, build_id)
    assert not staged(services, "one", digest)
    take_back(services, build_id)


def test_nothing_staged_is_nothing_to_do(services: Services) -> None:
    take_back(services, build(services))


def test_it_stays_as_long_as_another_build_needs_it(services: Services) -> None:
    first, second = build(services), build(services)
    digest = stage(services, first, "two")
    assert stage(services, second, "two") == digest
    take_back(services, first)
    assert staged(services, "two", digest)
    take_back(services, second)
    assert not staged(services, "two", digest)


def test_what_could_not_be_removed_is_swept_up_later(services: Services, tmp_path: Path, registry: str) -> None:
    build_id = build(services)
    digest = stage(services, build_id, "three")
    away = services_of(tmp_path, f"127.0.0.1:{free_port()}")
    with pytest.raises(RegistryUnavailable):
        take_back(away, build_id)
    fail(services, build_id)
    assert staged(services, "three", digest)
    sweep(services)
    assert not staged(services, "three", digest)
    with services.database.read() as session:
        assert builds.ended_but_staged(session) == []


def publish(services: Services, digest: str, name: str) -> None:
    """Put a staged image where releases go, as a release that was not recorded yet."""
    source, target = services.staging(name), services.released(name)
    services.registry.images.copy(source, digest, target, spool_dir=services.spool)


def published(services: Services, name: str, digest: str) -> bool:
    return services.registry.manifests.find(services.released(name).at(digest)) is not None


def release(services: Services, build_id: str, digest: str, name: str) -> None:
    with services.database.write() as session:
        session.add(
            Release(
                build_id=build_id, digest=digest, recipe_name="web", recipe_digest="sha256:" + "1" * 64,
                registry_host=services.settings.registry, repository=name, tags=["1"], released_at=1.0,
            )
        )  # fmt: skip


def test_what_was_published_and_never_recorded_is_taken_back_with_it(services: Services) -> None:
    build_id = build(services)
    digest = stage(services, build_id, "four")
    publish(services, digest, "four")
    fail(services, build_id)
    sweep(services)
    assert not published(services, "four", digest)
    assert not staged(services, "four", digest)


def test_what_somebody_released_stays(services: Services) -> None:
    first, second = build(services), build(services)
    digest = stage(services, first, "five")
    stage(services, second, "five")
    publish(services, digest, "five")
    release(services, first, digest, "five")
    fail(services, second)
    take_back(services, second)
    assert published(services, "five", digest)
    fail(services, first)
    take_back(services, first)
    assert published(services, "five", digest)
    assert not staged(services, "five", digest)


def attested(services: Services, build_id: str, digest: str, name: str, *, kind: Kind, said: bytes) -> str:
    """Attach something signed to a published image, as a release does, which notes it first."""
    registry, target = services.registry, services.released(name)
    image = registry.manifests.get(target.at(digest)).descriptor()
    registry.blobs.push_bytes(target, b"{}", EMPTY)
    blob = registry.blobs.push_bytes(target, said, BUNDLE)
    manifest = bundle_manifest(image, blob, predicate_type="https://example.org/x", created="2026-01-01T00:00:00Z")
    with services.database.write() as session:
        attachments.attach(session, build_id, kind, BUNDLE, said)
        attachments.set_referrers(session, build_id, {kind: manifest.descriptor().digest})
    return registry.referrers.attach(target, manifest).digest


def test_of_a_failed_build_no_attestation_stays_on_an_image_that_another_released(services: Services) -> None:
    good, failed = build(services), build(services)
    digest = stage(services, good, "six")
    stage(services, failed, "six")
    publish(services, digest, "six")
    theirs = attested(services, good, digest, "six", kind=Kind.PROVENANCE, said=b"of the good one")
    shared = attested(services, good, digest, "six", kind=Kind.SCAN, said=b"of both")
    own = attested(services, failed, digest, "six", kind=Kind.PROVENANCE, said=b"of the failed one")
    assert attested(services, failed, digest, "six", kind=Kind.SCAN, said=b"of both") == shared
    release(services, good, digest, "six")
    fail(services, failed)
    take_back(services, failed)
    target = services.released("six")
    assert {one.digest for one in services.registry.referrers.of(target, digest)} == {theirs, shared}
    assert services.registry.manifests.find(target.at(own)) is None
    assert published(services, "six", digest)


def test_whoever_removes_an_image_and_whoever_begins_to_need_it_take_turns(services: Services) -> None:
    ended, new = build(services), build(services)
    digest = stage(services, ended, "seven")
    fail(services, ended)
    with ThreadPoolExecutor(1) as pool:
        with staging_of(services, "seven", digest):
            removing = pool.submit(take_back, services, ended)
            time.sleep(0.3)
            assert staged(services, "seven", digest), "nobody removes it while somebody begins to need it"
            stage(services, new, "seven")
        removing.result(20)
    assert staged(services, "seven", digest)


class TestSpool:
    def test_is_there_while_it_is_used_and_gone_afterwards(self, services: Services) -> None:
        with spool_of(services, build(services)) as spool:
            (spool / "layer").write_bytes(b"x")
        assert list(services.spool.iterdir()) == []

    def test_is_gone_after_a_failure_too(self, services: Services) -> None:
        with pytest.raises(ZeroDivisionError), spool_of(services, build(services)):
            raise ZeroDivisionError
        assert list(services.spool.iterdir()) == []

    def test_of_killed_workers_is_removed_and_of_living_ones_is_not(self, services: Services) -> None:
        ended, living, own = build(services), build(services), build(services)
        fail(services, ended)
        for owner in (ended, living, own, "unknown"):
            (services.spool / f"{owner}-abc").mkdir()
        with spool_of(services, own) as spool:
            assert sorted(services.spool.iterdir()) == sorted([services.spool / f"{living}-abc", spool])
