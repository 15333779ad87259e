"""What an image was made of is kept beside it in a real registry: whole, once, and believed only by its digests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from builder.image.digests import digest_of
from builder.image.documents import CONFIG, Descriptor, ImageConfig, Manifest, RootFS
from builder.pipeline.base import Base
from builder.pipeline.kept import DEB, KeptSource
from builder.pipeline.materials import (
    BASE_CONFIG,
    BASE_MANIFEST,
    LOCK,
    MATERIALS,
    MaterialsInvalid,
    attach_materials,
    copy_materials,
    keep_blobs,
    materials_manifest,
    read_materials,
)
from builder.planning.agreement import locked_files, requested
from builder.planning.debs import DebStore, MaterialCorrupt
from builder.planning.lock import Lock, LockedBase, LockedPackage
from builder.planning.supply import MaterialGone, Supply
from builder.recipes.model import Recipe
from builder.recipes.reading import canonical_json, recipe_from_data
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.errors import DigestMismatch, ManifestUnknown, RegistryUnavailable
from builder.registry.reference import Repository
from tests.integration.registry_server import free_port, running_registry

_NUMBERS = count()


@dataclass(frozen=True)
class Running:
    """A registry and the directory where it keeps its blobs."""

    address: str
    storage: Path

    def repository(self, name: str) -> Repository:
        return Repository(self.address, name)

    def data(self, digest: str) -> Path:
        value = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"

    def blobs(self) -> set[str]:
        """The digests of all content that is stored, each once whatever refers to it."""
        return {f"sha256:{path.parent.name}" for path in self.storage.rglob("blobs/sha256/*/*/data")}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("registry")
    with running_registry(directory) as address:
        yield Running(address, directory / "storage")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[RegistryClient]:
    with RegistryClient(Access(attempts=2), lock_directory=tmp_path / "locks") as made:
        yield made


@pytest.fixture
def debs(tmp_path: Path) -> DebStore:
    return DebStore(tmp_path / "debs")


@contextmanager
def flipped(path: Path) -> Iterator[None]:
    """A file with one bit in its middle flipped, for the length of a block."""
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    path.write_bytes(damaged)
    yield
    path.write_bytes(content)


def content_of(name: str) -> bytes:
    return b"!<arch>\n" + name.encode() * 100


def package(name: str) -> LockedPackage:
    content = content_of(name)
    sha256 = hashlib.sha256(content).hexdigest()
    return LockedPackage(name=name, version="1:2.0-1", architecture="amd64", size=len(content), sha256=sha256)


def recipe(name: str, base: dict[str, object] | None = None) -> Recipe:
    files = [
        {"path": "/etc/motd", "content": f"welcome to {name}\n"},
        {"path": "/etc/issue", "content": f"welcome to {name}\n"},
        {"path": "/empty", "content": ""},
    ]
    spec = {"base": base or {"debian": {"suite": "trixie"}}, "files": files, "publish": {"repository": f"g/{name}"}}
    return recipe_from_data({"apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": name}, "spec": spec})


def lock_of(made_for: Recipe, names: Sequence[str], base: LockedBase | None = None) -> Lock:
    return Lock(
        builder="goldsmith 0",
        epoch=1,
        requested=requested(made_for),
        base=base or LockedBase(suite="trixie", architecture="amd64", packages=(package("libc6"),)),
        files=locked_files(made_for),
        packages=tuple(package(name) for name in names),
    )


def add(debs: DebStore, lock: Lock, directory: Path) -> None:
    for one in lock.all_packages:
        file = directory / one.name
        file.write_bytes(content_of(one.name))
        debs.add(file, one.sha256)


def image_in(client: RegistryClient, repository: Repository, author: str) -> tuple[Descriptor, Manifest, ImageConfig]:
    config = ImageConfig(architecture="amd64", os="linux", author=author, rootfs=RootFS(diff_ids=()))
    data = config.to_bytes()
    manifest = Manifest(config=Descriptor(media_type=CONFIG, digest=digest_of(data), size=len(data)), layers=())
    return client.images.push(repository, manifest, {manifest.config.digest: data}), manifest, config


@dataclass(frozen=True)
class Kept:
    """An image with its materials beside it."""

    repository: Repository
    image: Descriptor
    recipe: Recipe
    lock: Lock
    blobs: tuple[Descriptor, ...]
    digest: str


def keep(
    client: RegistryClient,
    repository: Repository,
    debs: DebStore,
    directory: Path,
    *,
    names: Sequence[str] = ("hello", "tini"),
    base: Base | None = None,
) -> Kept:
    own = recipe(repository.name.rpartition("/")[2], {"recipe": "debian"} if base else None)
    start = LockedBase(suite="", architecture="amd64", image=base.digest, recipe="debian") if base else None
    lock = lock_of(own, names, start)
    add(debs, lock, directory)
    blobs = keep_blobs(client, repository, own, lock, base, debs)
    image, _, _ = image_in(client, repository, repository.name)
    digest = attach_materials(client, repository, materials_manifest(image, blobs)).digest
    return Kept(repository, image, own, lock, blobs, digest)


@pytest.fixture
def web(registry: Running, client: RegistryClient, debs: DebStore, tmp_path: Path) -> Kept:
    return keep(client, registry.repository(f"staging/web{next(_NUMBERS)}"), debs, tmp_path)


def attach(client: RegistryClient, kept: Kept, blobs: Sequence[Descriptor], kind: str | None = MATERIALS) -> str:
    """Attach other materials to an image than its own."""
    manifest = materials_manifest(kept.image, blobs).model_copy(update={"artifact_type": kind})
    return attach_materials(client, kept.repository, manifest).digest


class TestKeeping:
    def test_then_reading_gives_the_lock_back(self, client: RegistryClient, web: Kept) -> None:
        found = read_materials(client, web.repository, web.digest, web.lock.digest)
        assert (found.lock, found.base) == (web.lock, None)

    def test_lists_the_materials_for_their_image(self, client: RegistryClient, web: Kept) -> None:
        listed = client.referrers.of(web.repository, web.image.digest, artifact_type=MATERIALS)
        assert [one.digest for one in listed] == [web.digest]

    def test_has_every_input_by_its_own_name(self, client: RegistryClient, web: Kept) -> None:
        named = {(blob.annotations or {})["org.opencontainers.image.title"]: blob for blob in web.blobs}
        assert list(named) == [
            "recipe.json", "lock.json", "/etc/motd", "/etc/issue", "/empty",
            "libc6_2.0-1_amd64.deb", "hello_2.0-1_amd64.deb", "tini_2.0-1_amd64.deb",
        ]  # fmt: skip
        fetched = {name: client.blobs.fetch(web.repository, blob) for name, blob in named.items()}
        assert fetched["recipe.json"] == canonical_json(web.recipe)
        assert fetched["lock.json"] == web.lock.canonical()
        assert fetched["/etc/motd"] == fetched["/etc/issue"] == f"welcome to {web.recipe.metadata.name}\n".encode()
        assert fetched["/empty"] == b""
        assert fetched["hello_2.0-1_amd64.deb"] == content_of("hello")

    def test_again_changes_nothing(
        self, registry: Running, client: RegistryClient, web: Kept, debs: DebStore, tmp_path: Path
    ) -> None:
        before = registry.blobs()
        assert keep(client, web.repository, debs, tmp_path).digest == web.digest
        assert registry.blobs() == before

    def test_of_a_package_that_was_changed_on_disk_is_refused_by_its_name(
        self, registry: Running, client: RegistryClient, debs: DebStore, tmp_path: Path
    ) -> None:
        own = recipe("changed")
        lock = lock_of(own, ["hello"])
        add(debs, lock, tmp_path)
        debs.path(package("hello").sha256).write_bytes(b"changed")
        with pytest.raises(MaterialCorrupt, match="hello 1:2"):
            keep_blobs(client, registry.repository("staging/changed"), own, lock, None, debs)

    def test_what_two_images_share_stores_it_once(
        self, registry: Running, client: RegistryClient, debs: DebStore, tmp_path: Path
    ) -> None:
        one = keep(client, registry.repository("staging/one"), debs, tmp_path, names=("hello", "tini"))
        before = registry.blobs()
        two = keep(client, registry.repository("staging/two"), debs, tmp_path, names=("hello", "tini", "bash"))
        new = registry.blobs() - before
        packages = {f"sha256:{package(name).sha256}" for name in ("libc6", "hello", "tini", "bash")}
        assert packages <= registry.blobs()
        # Of packages only the one that is new; and its own recipe, lock, file, config and the manifests.
        assert new & packages == {f"sha256:{package('bash').sha256}"}
        assert {blob.digest for blob in two.blobs} - {blob.digest for blob in one.blobs} <= new


class TestPublishing:
    def test_within_a_registry_sends_no_byte_and_keeps_the_signed_digest(
        self, registry: Running, client: RegistryClient, web: Kept, tmp_path: Path
    ) -> None:
        target = registry.repository("released/web")
        client.images.copy(web.repository, web.image.digest, target, spool_dir=tmp_path)
        # To send a blob it would have to be spooled first.
        nowhere = tmp_path / "no" / "such" / "directory"
        assert copy_materials(client, web.repository, web.digest, target, nowhere).digest == web.digest
        assert read_materials(client, target, web.digest, web.lock.digest).lock == web.lock
        assert [one.digest for one in client.referrers.of(target, web.image.digest)] == [web.digest]

    def test_to_another_registry_takes_every_byte_along(
        self, client: RegistryClient, web: Kept, debs: DebStore, tmp_path: Path
    ) -> None:
        with running_registry(tmp_path / "other") as address:
            target = Repository(address, "mirror/web")
            client.images.copy(web.repository, web.image.digest, target, spool_dir=tmp_path)
            assert copy_materials(client, web.repository, web.digest, target, tmp_path).digest == web.digest
            fresh = DebStore(tmp_path / "fresh")
            Supply(fresh, [KeptSource(client, [target])]).bring(web.lock.all_packages)
            assert all(fresh.verified(one).read_bytes() == content_of(one.name) for one in web.lock.all_packages)

    def test_what_is_not_staged_is_told(
        self, registry: Running, client: RegistryClient, web: Kept, tmp_path: Path
    ) -> None:
        with pytest.raises(ManifestUnknown):
            copy_materials(client, web.repository, "sha256:" + "0" * 64, registry.repository("x"), tmp_path)


class TestReading:
    def refused(self, client: RegistryClient, web: Kept, digest: str, why: str, lock: str | None = None) -> None:
        with pytest.raises(MaterialsInvalid, match=why):
            read_materials(client, web.repository, digest, lock or web.lock.digest)

    def test_another_lock_than_the_signed_one_is_refused(self, client: RegistryClient, web: Kept) -> None:
        other = "sha256:" + "0" * 64
        self.refused(client, web, web.digest, f"{web.lock.digest}; the provenance names {other}", other)

    def test_two_locks_are_refused_for_nobody_knows_which_counts(self, client: RegistryClient, web: Kept) -> None:
        other = web.lock.model_copy(update={"epoch": 2})
        second = client.blobs.push_bytes(web.repository, other.canonical(), LOCK)
        for blobs in ((*web.blobs, second), (second, *web.blobs)):
            self.refused(client, web, attach(client, web, blobs), "hold 2 blobs of type .*lock.v1.json, not one")

    def test_none_is_refused(self, client: RegistryClient, web: Kept) -> None:
        blobs = [blob for blob in web.blobs if blob.media_type != LOCK]
        self.refused(client, web, attach(client, web, blobs), "hold no lock")

    @pytest.mark.parametrize("kind", [None, "application/vnd.goldsmith.lock.v1+json"])
    def test_a_manifest_of_another_type_is_refused(self, client: RegistryClient, web: Kept, kind: str | None) -> None:
        digest = attach(client, web, web.blobs, kind)
        self.refused(client, web, digest, f"is of type {re.escape(str(kind))}, not {re.escape(MATERIALS)}")

    def test_an_image_is_no_materials(self, client: RegistryClient, web: Kept) -> None:
        self.refused(client, web, web.image.digest, "is of type None")

    def test_a_lock_that_the_registry_changed_is_refused(
        self, registry: Running, client: RegistryClient, web: Kept
    ) -> None:
        (blob,) = (blob for blob in web.blobs if blob.media_type == LOCK)
        with flipped(registry.data(blob.digest)), pytest.raises(DigestMismatch, match="other content"):
            read_materials(client, web.repository, web.digest, web.lock.digest)


class TestABase:
    @pytest.fixture
    def base(self, registry: Running, client: RegistryClient) -> Base:
        repository = registry.repository("golden/debian")
        image, manifest, config = image_in(client, repository, "base")
        return Base(repository, image.digest, manifest, config, (), None)

    def test_is_kept_by_its_documents_so_that_its_repository_may_go(
        self, registry: Running, client: RegistryClient, debs: DebStore, tmp_path: Path, base: Base
    ) -> None:
        kept = keep(client, registry.repository("staging/child"), debs, tmp_path, base=base)
        assert client.manifests.delete(base.repository.at(base.digest))
        found = read_materials(client, kept.repository, kept.digest, kept.lock.digest).base
        assert found is not None
        assert (found.manifest, found.config) == (base.manifest, base.config)
        assert digest_of(found.manifest_bytes) == base.digest
        assert digest_of(found.config_bytes) == base.manifest.config.digest

    def test_that_is_not_there_or_is_another_is_refused(
        self, registry: Running, client: RegistryClient, debs: DebStore, tmp_path: Path, base: Base
    ) -> None:
        kept = keep(client, registry.repository("staging/child"), debs, tmp_path, base=base)
        _, manifest, config = image_in(client, kept.repository, "another base")
        others = [
            client.blobs.push_bytes(kept.repository, manifest.to_bytes(), BASE_MANIFEST),
            client.blobs.push_bytes(kept.repository, config.to_bytes(), BASE_CONFIG),
        ]

        def refused(instead: Sequence[Descriptor], *without: str) -> str:
            blobs = [blob for blob in kept.blobs if blob.media_type not in without]
            with pytest.raises(MaterialsInvalid) as caught:
                read_materials(client, kept.repository, attach(client, kept, [*blobs, *instead]), kept.lock.digest)
            return caught.value.detail

        assert f"do not hold the base {base.digest}" in refused([], BASE_MANIFEST)
        assert f"do not hold the base {base.digest}" in refused([], BASE_CONFIG)
        assert f"do not hold the base {base.digest}" in refused(others, BASE_MANIFEST, BASE_CONFIG)
        assert f"hold another config than the base {base.digest} has" in refused(others[1:], BASE_CONFIG)


@pytest.fixture
def empty(tmp_path: Path) -> DebStore:
    """Another worker's store, without any package."""
    return DebStore(tmp_path / "empty")


class TestPackages:
    def test_come_back_with_their_exact_bytes(self, client: RegistryClient, web: Kept, empty: DebStore) -> None:
        supply = Supply(empty, [KeptSource(client, [web.repository])])
        supply.bring(web.lock.all_packages)
        assert supply.brought == {"the registry": 3}
        assert all(empty.verified(one).read_bytes() == content_of(one.name) for one in web.lock.all_packages)

    def test_are_looked_for_in_each_repository_in_turn(
        self, registry: Running, client: RegistryClient, web: Kept, empty: DebStore
    ) -> None:
        places = [registry.repository("never/heard/of"), web.repository]
        Supply(empty, [KeptSource(client, places)]).bring([package("hello")])
        assert empty.has(package("hello").sha256)

    def test_of_another_repository_are_not_there(
        self, registry: Running, client: RegistryClient, web: Kept, empty: DebStore
    ) -> None:
        source = KeptSource(client, [registry.repository("never/heard/of")])
        with pytest.raises(MaterialGone, match=r"hello 1:2\.0-1 .*asked: the registry"):
            Supply(empty, [source]).bring([package("hello")])

    def test_with_one_flipped_bit_in_the_registrys_storage_are_refused_by_name(
        self, registry: Running, client: RegistryClient, web: Kept, empty: DebStore, tmp_path: Path
    ) -> None:
        source = KeptSource(client, [web.repository])
        with flipped(registry.data(f"sha256:{package('tini').sha256}")):
            with pytest.raises(MaterialCorrupt) as caught:
                Supply(empty, [source]).bring(web.lock.all_packages)
            assert not empty.has(package("tini").sha256)
        assert f"tini 1:2.0-1, as {web.repository} keeps it, is not what was locked" in caught.value.detail
        assert package("tini").sha256 in caught.value.detail
        assert "nothing was built from it" in (caught.value.hint or "")
        Supply(empty, [source]).bring(web.lock.all_packages)

    def test_of_a_registry_that_does_not_answer_are_not_said_to_be_gone(
        self, client: RegistryClient, empty: DebStore
    ) -> None:
        away = Repository(f"127.0.0.1:{free_port()}", "g/web")
        with pytest.raises(RegistryUnavailable):
            Supply(empty, [KeptSource(client, [away])]).bring([package("hello")])

    def test_are_of_the_type_that_says_so(self, web: Kept) -> None:
        kinds = [blob.media_type for blob in web.blobs]
        assert kinds.count(DEB) == len(web.lock.all_packages)
