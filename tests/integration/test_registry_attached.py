"""What is attached to an image can be found whatever else anybody attaches; what could not be read is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from builder.image.digests import digest_of
from builder.image.documents import (
    CONFIG,
    EMPTY,
    EMPTY_DESCRIPTOR,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    RootFS,
    parse_index,
)
from builder.registry.access import Access
from builder.registry.artifact import BUNDLE, artifact_manifest
from builder.registry.attached import attached
from builder.registry.client import RegistryClient
from builder.registry.errors import RegistryUnavailable
from builder.registry.reference import Reference, Repository
from tests.integration.hostile_server import Answer, Request, answering
from tests.integration.registry_server import free_port, running_registry

NUMBERS = count()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def registry(directory: Path) -> Iterator[str]:
    with running_registry(directory) as address:
        yield address


@pytest.fixture
def client(tmp_path: Path) -> Iterator[RegistryClient]:
    with RegistryClient(Access(attempts=1), lock_directory=tmp_path / "locks") as made:
        yield made


@dataclass(frozen=True)
class Image:
    """An image to attach things to, and the list of what is attached, which anybody who may push can write."""

    client: RegistryClient
    repository: Repository
    subject: Descriptor

    @property
    def tag(self) -> Reference:
        return self.repository.tagged(f"sha256-{self.subject.digest.removeprefix('sha256:')}")

    def artifact(self, content: bytes, artifact_type: str = BUNDLE) -> Manifest:
        blob = self.client.blobs.push_bytes(self.repository, content, artifact_type)
        return artifact_manifest(self.subject, blob, artifact_type=artifact_type)

    def attach(self, manifest: Manifest) -> Descriptor:
        self.client.blobs.push_bytes(self.repository, b"{}", EMPTY)
        return self.client.referrers.attach(self.repository, manifest)

    def attach_good(self) -> str:
        """The digest of the blob that must be found."""
        good = self.artifact(b"good")
        self.attach(good)
        return good.layers[0].digest

    def rewrite(self, *listed: Descriptor) -> None:
        """Put these first in the list."""
        before = parse_index(self.client.manifests.get(self.tag).data).manifests
        self.client.manifests.put(self.tag, Index(manifests=(*listed, *before)).to_bytes())

    def found(self) -> tuple[list[str], tuple[str, ...]]:
        there = attached(self.client, self.repository, self.subject.digest, BUNDLE)
        return [blob.digest for blob in there.blobs], there.unreadable


@pytest.fixture
def image(registry: str, client: RegistryClient) -> Image:
    repository = Repository(registry, f"image{next(NUMBERS)}")
    config = ImageConfig(architecture="amd64", os="linux", author=repository.name, rootfs=RootFS(diff_ids=()))
    data = config.to_bytes()
    manifest = Manifest(config=Descriptor(media_type=CONFIG, digest=digest_of(data), size=len(data)), layers=())
    return Image(client, repository, client.images.push(repository, manifest, {digest_of(data): data}))


def listed(digest: str, artifact_type: str | None = BUNDLE) -> Descriptor:
    media_type = "application/vnd.oci.image.manifest.v1+json"
    return Descriptor(media_type=media_type, digest=digest, size=10, artifact_type=artifact_type)


def test_nothing_is_attached_to_an_image_that_was_just_pushed(image: Image) -> None:
    assert image.found() == ([], ())


def test_what_was_deleted_keeps_nobody_from_attaching(image: Image) -> None:
    first, second = image.attach(image.artifact(b"first")), image.attach(image.artifact(b"second"))
    assert image.client.manifests.delete(image.repository.at(first.digest))
    third = image.attach(image.artifact(b"third"))
    listed_now = image.client.referrers.of(image.repository, image.subject.digest)
    assert [one.digest for one in listed_now] == [second.digest, third.digest]


def test_what_is_attached_is_found_by_its_type(image: Image) -> None:
    good = image.attach_good()
    image.attach(image.artifact(b"an inventory", "application/x-inventory"))
    assert image.found() == ([good], ())


def test_a_list_that_leaves_the_type_out_is_made_up_for_by_the_manifest(image: Image) -> None:
    good = image.attach(image.artifact(b"good"))
    other = image.attach(image.artifact(b"an inventory", "application/x-inventory"))
    untyped = Index(manifests=(listed(good.digest, None), listed(other.digest, None)))
    image.client.manifests.put(image.tag, untyped.to_bytes())
    assert image.found() == ([digest_of(b"good")], ())


def test_a_list_that_lies_of_the_type_is_not_believed(image: Image) -> None:
    good = image.attach_good()
    other = image.attach(image.artifact(b"an inventory", "application/x-inventory"))
    image.rewrite(listed(other.digest, BUNDLE))
    assert image.found() == ([good], ())


def test_one_that_is_listed_and_was_deleted_hides_no_other(image: Image) -> None:
    bad = image.attach(image.artifact(b"bad"))
    good = image.attach_good()
    assert image.client.manifests.delete(image.repository.at(bad.digest))
    blobs, unreadable = image.found()
    assert blobs == [good]
    assert [f"referrer {bad.digest}" in told and "is not in the registry" in told for told in unreadable] == [True]


def test_one_whose_manifest_was_changed_in_storage_hides_no_other(image: Image, directory: Path) -> None:
    bad = image.attach(image.artifact(b"bad"))
    good = image.attach_good()
    (data,) = directory.rglob(f"{bad.digest.removeprefix('sha256:')}/data")
    data.write_bytes(data.read_bytes().replace(b'"size":3', b'"size":4'))
    blobs, unreadable = image.found()
    assert blobs == [good]
    assert [bad.digest in told for told in unreadable] == [True]


def test_one_that_is_an_index_hides_no_other(image: Image) -> None:
    good = image.attach_good()
    index = image.client.manifests.put(image.repository.tagged("index"), Index(manifests=()).to_bytes())
    image.rewrite(listed(index.digest))
    blobs, unreadable = image.found()
    assert blobs == [good]
    assert "application/vnd.oci.image.index.v1+json" in unreadable[0]


@pytest.mark.parametrize("blobs", [0, 2])
def test_one_with_no_blob_or_two_hides_no_other_for_nobody_knows_which_counts(image: Image, blobs: int) -> None:
    good = image.attach_good()
    some = [image.client.blobs.push_bytes(image.repository, b"%d" % number, BUNDLE) for number in range(blobs)]
    odd = Manifest(artifact_type=BUNDLE, config=EMPTY_DESCRIPTOR, layers=tuple(some), subject=image.subject)
    image.rewrite(image.attach(odd))
    assert set(image.found()[0]) == {good}


def test_more_than_anybody_looks_at_are_said_to_be_there(client: RegistryClient) -> None:
    blob = Descriptor(media_type=BUNDLE, digest=digest_of(b"good"), size=4)
    manifest = artifact_manifest(listed(digest_of(b"image"), None), blob, artifact_type=BUNDLE)
    good = listed(manifest.descriptor().digest)
    many = [listed(f"sha256:{number:064x}") for number in range(104)]

    def answer(asked: Request) -> Answer:
        if "/referrers/" in asked.path:
            return Answer(body=Index(manifests=(good, *many)).to_bytes())
        return Answer(body=manifest.to_bytes()) if good.digest in asked.path else Answer(404)

    with answering(answer) as server:
        there = attached(client, Repository(server.address, "x"), digest_of(b"image"), BUNDLE)
        assert len(server.requests) == 1 + 100
    assert there.blobs == (blob,)
    assert there.unreadable[-1] == "5 more referrers were not looked at"


def test_a_registry_that_does_not_answer_has_not_said_that_there_is_nothing(client: RegistryClient) -> None:
    with pytest.raises(RegistryUnavailable):
        attached(client, Repository(f"127.0.0.1:{free_port()}", "x"), "sha256:" + "0" * 64, BUNDLE)


def test_one_that_fails_half_way_has_not_either(client: RegistryClient) -> None:
    index = Index(manifests=(listed("sha256:" + "0" * 64),)).to_bytes()
    with (
        answering(lambda asked: Answer(body=index) if "referrers" in asked.path else Answer(503)) as server,
        pytest.raises(RegistryUnavailable),
    ):
        attached(client, Repository(server.address, "x"), "sha256:" + "1" * 64, BUNDLE)
