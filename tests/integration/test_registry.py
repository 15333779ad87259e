"""The client against a real registry, with skopeo as the independent reader."""

import base64
import json
import random
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.errors import Cancelled
from builder.image.digests import CHUNK, digest_of, digest_of_file
from builder.image.documents import (
    CONFIG,
    EMPTY_DESCRIPTOR,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    RootFS,
    parse_index,
)
from builder.image.entry import Entry, EntryType
from builder.image.layer import write_layer
from builder.image.tarwriter import tar_stream
from builder.registry.access import Access
from builder.registry.artifact import BUNDLE, artifact_manifest, bundle_manifest
from builder.registry.client import RegistryClient
from builder.registry.credentials import DockerConfig, GivenCredentials
from builder.registry.errors import (
    BlobUnknown,
    DigestMismatch,
    ManifestUnknown,
    RegistryRefused,
    RegistryUnavailable,
)
from builder.registry.reference import Repository, parse_reference
from tests.integration.registry_server import free_port, running_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def client(tmp_path: Path) -> Iterator[RegistryClient]:
    with RegistryClient(Access(), lock_directory=tmp_path / "locks") as client:
        yield client


def an_image(directory: Path, content: bytes = b"hello") -> tuple[Manifest, dict[str, Path | bytes]]:
    directory.mkdir(exist_ok=True)
    entry = Entry(b"greeting", EntryType.FILE, 0o644, 0, 0, size=len(content))
    layer = write_layer(tar_stream([entry], lambda _: iter([content]), epoch=0), directory / f"{digest_of(content)}.gz")
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=(layer.diff_id,))).to_bytes()
    manifest = Manifest(
        config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)),
        layers=(Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size),),
    )
    return manifest, {layer.digest: layer.path, manifest.config.digest: config}


def skopeo(*arguments: str) -> str:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def test_skopeo_reads_what_was_pushed(registry: str, client: RegistryClient, tmp_path: Path) -> None:
    repository = Repository(registry, "golden/web")
    manifest, blobs = an_image(tmp_path)
    pushed = client.images.push(repository, manifest, blobs, tag="1.0")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{repository}:1.0")
    assert raw.encode() == manifest.to_bytes()
    seen = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{repository}@{pushed.digest}"))
    assert seen["Digest"] == pushed.digest
    assert seen["Layers"] == [manifest.layers[0].digest]
    skopeo("copy", "--src-tls-verify=false", f"docker://{repository}:1.0", f"oci:{tmp_path / 'out'}:x")


def test_what_skopeo_pushed_is_pulled_whole(registry: str, client: RegistryClient, tmp_path: Path) -> None:
    manifest, blobs = an_image(tmp_path)
    client.images.push(Repository(registry, "one"), manifest, blobs, tag="a")
    skopeo(
        "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2",
        f"docker://{registry}/one:a", f"docker://{registry}/foreign:b",
    )  # fmt: skip
    image = client.images.pull(parse_reference(f"{registry}/foreign:b"), tmp_path / "layout")
    assert image.manifest.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    layer = manifest.layers[0].digest
    assert digest_of_file(image.blob(layer)) == layer


def test_pushing_again_changes_nothing(registry: str, client: RegistryClient, tmp_path: Path) -> None:
    manifest, blobs = an_image(tmp_path)
    repository = Repository(registry, "again")
    assert client.images.push(repository, manifest, blobs) == client.images.push(repository, manifest, blobs)


def test_a_tag_gives_a_digest_and_a_digest_its_content(registry: str, client: RegistryClient, tmp_path: Path) -> None:
    repository = Repository(registry, "tags")
    manifest, blobs = an_image(tmp_path)
    assert client.manifests.tags(repository) == []
    pushed = client.images.push(repository, manifest, blobs, tag="a")
    client.manifests.put(repository.tagged("b"), manifest.to_bytes())
    assert sorted(client.manifests.tags(repository)) == ["a", "b"]
    assert client.manifests.get(repository.tagged("b")).digest == pushed.digest
    assert client.manifests.get(repository.at(pushed.digest)).data == manifest.to_bytes()
    assert client.manifests.delete(repository.tagged("b"))
    with pytest.raises(ManifestUnknown, match="tags"):
        client.manifests.get(repository.at(pushed.digest))
    assert not client.manifests.delete(repository.at(pushed.digest))


def test_a_copy_in_one_registry_is_mounted_and_identical(registry: str, client: RegistryClient, tmp_path: Path) -> None:
    staging, release = Repository(registry, "staging/app"), Repository(registry, "release/app")
    manifest, blobs = an_image(tmp_path)
    pushed = client.images.push(staging, manifest, blobs)
    assert client.blobs.mount(release, manifest.layers[0].digest, staging)
    assert client.images.copy(staging, pushed.digest, release, spool_dir=tmp_path).digest == pushed.digest
    assert client.manifests.get(release.at(pushed.digest)).data == manifest.to_bytes()


def test_a_copy_to_another_registry_takes_an_index_along(registry: str, client: RegistryClient, tmp_path: Path) -> None:
    source = Repository(registry, "multi")
    children = []
    for content in (b"one", b"two"):
        manifest, blobs = an_image(tmp_path, content)
        children.append(client.images.push(source, manifest, blobs))
    index = client.manifests.put(source.tagged("all"), Index(manifests=tuple(children)).to_bytes())
    with running_registry(tmp_path / "other") as other:
        target = Repository(other, "mirror/multi")
        client.images.copy(source, index.digest, target, spool_dir=tmp_path)
        assert [client.manifests.get(target.at(one.digest)).digest for one in children] == [c.digest for c in children]
        copied = client.images.pull(target.at(children[1].digest), tmp_path / "layout")
        assert copied.descriptor.digest == children[1].digest


def test_a_mount_of_what_is_not_there_says_no(registry: str, client: RegistryClient) -> None:
    assert not client.blobs.mount(Repository(registry, "target"), digest_of(b"nowhere"), Repository(registry, "source"))


def test_a_blob_that_is_not_its_digest_is_not_stored(registry: str, client: RegistryClient) -> None:
    wrong = Descriptor(media_type="text/plain", digest=digest_of(b"right"), size=5)
    with pytest.raises(Exception, match="DIGEST_INVALID"):
        client.blobs.push(Repository(registry, "wrong"), b"wrong", wrong)
    assert client.blobs.size(Repository(registry, "wrong"), wrong.digest) is None


def test_a_blob_damaged_in_the_registry_is_not_taken(tmp_path: Path, client: RegistryClient) -> None:
    with running_registry(tmp_path / "registry") as address:
        repository = Repository(address, "damaged")
        blob = client.blobs.push_bytes(repository, b"precious content", "text/plain")
        (data,) = (tmp_path / "registry" / "storage").rglob(f"{blob.digest[7:]}/data")
        data.write_bytes(b"poisoned content")
        with pytest.raises(DigestMismatch, match="other content"):
            client.blobs.pull(repository, blob, tmp_path / "blob")
        assert not (tmp_path / "blob").exists()
        with pytest.raises(BlobUnknown):
            client.blobs.fetch(repository, Descriptor(media_type="x", digest=digest_of(b"none"), size=4))


def test_an_image_of_which_anything_is_damaged_is_not_vouched_for(tmp_path: Path, client: RegistryClient) -> None:
    with running_registry(tmp_path / "registry") as address:
        repository = Repository(address, "staged")
        manifest, blobs = an_image(tmp_path)
        image = client.images.push(repository, manifest, blobs)
        assert client.images.verify(repository, image.digest, lambda: None) == image
        for blob in (manifest.layers[0], manifest.config):
            (data,) = (tmp_path / "registry" / "storage").rglob(f"{blob.digest[7:]}/data")
            whole = data.read_bytes()
            data.write_bytes(bytes(reversed(whole)))
            with pytest.raises(DigestMismatch):
                client.images.verify(repository, image.digest, lambda: None)
            data.write_bytes(whole)
        data.unlink()
        with pytest.raises(BlobUnknown, match="holds no blob"):
            client.images.verify(repository, image.digest, lambda: None)


def test_whoever_reads_an_image_can_be_stopped_before_its_end(
    registry: str, client: RegistryClient, tmp_path: Path
) -> None:
    repository = Repository(registry, "large")
    content = random.Random(1).randbytes(8 * CHUNK)
    layer = client.blobs.push_bytes(repository, content, "application/octet-stream")
    config = client.blobs.push_bytes(repository, b"{}", EMPTY_DESCRIPTOR.media_type)
    image = client.images.push(repository, Manifest(config=config, layers=(layer,)), {})
    read: list[None] = []

    def until_the_third_chunk() -> None:
        read.append(None)
        if len(read) == 3:
            raise Cancelled("somebody asked")

    with pytest.raises(Cancelled):
        client.images.verify(repository, image.digest, until_the_third_chunk)
    assert len(read) == 3
    assert client.images.verify(repository, image.digest, lambda: None) == image


def test_referrers_are_listed_by_the_tag_and_found_by_type(
    registry: str, client: RegistryClient, tmp_path: Path
) -> None:
    repository = Repository(registry, "signed")
    manifest, blobs = an_image(tmp_path)
    subject = client.images.push(repository, manifest, blobs)
    client.blobs.push_bytes(repository, b"{}", EMPTY_DESCRIPTOR.media_type)
    bundle = client.blobs.push_bytes(repository, b'{"bundle":1}', BUNDLE)
    artifact = bundle_manifest(
        subject, bundle, predicate_type="https://slsa.dev/provenance/v1", created="2024-01-01T00:00:00Z"
    )
    attached = client.referrers.attach(repository, artifact)
    assert client.referrers.attach(repository, artifact) == attached
    assert client.referrers.of(repository, subject.digest, artifact_type=BUNDLE) == [attached]
    assert client.referrers.of(repository, subject.digest, artifact_type="text/other") == []
    index = client.manifests.get(repository.tagged("sha256-" + subject.digest.removeprefix("sha256:")))
    (listed,) = parse_index(index.data).manifests
    assert listed.annotations is not None
    assert listed.annotations["dev.sigstore.bundle.predicateType"] == "https://slsa.dev/provenance/v1"
    assert client.referrers.remove(repository, subject.digest) == 1
    assert client.referrers.of(repository, subject.digest) == []
    assert client.manifests.find(repository.at(attached.digest)) is None


def test_several_referrers_are_attached_together_and_each_once(
    registry: str, client: RegistryClient, tmp_path: Path
) -> None:
    repository = Repository(registry, "together")
    manifest, blobs = an_image(tmp_path)
    subject = client.images.push(repository, manifest, blobs)
    client.blobs.push_bytes(repository, b"{}", EMPTY_DESCRIPTOR.media_type)
    artifacts = [
        artifact_manifest(subject, client.blobs.push_bytes(repository, name, "text/plain"), artifact_type="text/x-name")
        for name in (b"one", b"two", b"three")
    ]
    first = client.referrers.attach(repository, artifacts[1])
    attached = client.referrers.attach_all(repository, artifacts)
    assert attached[1] == first
    listed = client.referrers.of(repository, subject.digest)
    assert sorted(one.digest for one in listed) == sorted(one.digest for one in attached)
    assert client.referrers.attach_all(repository, artifacts) == attached


def test_referrers_attached_at_once_are_all_listed(registry: str, tmp_path: Path) -> None:
    repository = Repository(registry, "crowded")
    manifest, blobs = an_image(tmp_path)
    with RegistryClient(Access(), lock_directory=tmp_path / "locks") as first:
        subject = first.images.push(repository, manifest, blobs)
        first.blobs.push_bytes(repository, b"{}", EMPTY_DESCRIPTOR.media_type)
    start = threading.Barrier(8)

    def attach(number: int) -> str:
        with RegistryClient(Access(), lock_directory=tmp_path / "locks") as client:
            blob = client.blobs.push_bytes(repository, b"%d" % number, "text/plain")
            artifact = artifact_manifest(subject, blob, artifact_type="text/x-number")
            start.wait()
            return client.referrers.attach(repository, artifact).digest

    with ThreadPoolExecutor(8) as pool:
        attached = set(pool.map(attach, range(8)))
    with RegistryClient(Access(), lock_directory=tmp_path / "locks") as client:
        assert {one.digest for one in client.referrers.of(repository, subject.digest)} == attached
    assert len(attached) == 8


def test_a_registry_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with (
        RegistryClient(Access(attempts=2), lock_directory=tmp_path) as client,
        pytest.raises(RegistryUnavailable, match=address),
    ):
        client.ping(address)


def test_a_registry_with_passwords_lets_in_whom_it_knows(tmp_path: Path) -> None:
    htpasswd = tmp_path / "htpasswd"
    # bcrypt of "s3cret-canary"
    htpasswd.write_text("ci:$2b$05$abcdefghijklmnopqrstuullx5kP6GYZcFnepqhmI2H03s5Hsbhlm\n")
    extra = f"auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}"
    with running_registry(tmp_path / "registry", extra, status=401) as address:
        repository = Repository(address, "private")
        manifest, blobs = an_image(tmp_path / "image")
        config = tmp_path / "config.json"
        config.touch(0o600)
        config.write_text(json.dumps({"auths": {address: {"auth": base64.b64encode(b"ci:s3cret-canary").decode()}}}))
        with RegistryClient(Access(credentials=DockerConfig(config)), lock_directory=tmp_path) as client:
            client.ping(address)
            client.images.push(repository, manifest, blobs, tag="a")
            assert client.manifests.get(repository.tagged("a")).data == manifest.to_bytes()
        wrong = GivenCredentials(address, "ci", "wr0ng-canary")
        with RegistryClient(Access(credentials=wrong), lock_directory=tmp_path) as client:
            with pytest.raises(RegistryRefused, match="user 'ci' from the settings") as refused:
                client.manifests.get(repository.tagged("a"))
            assert "canary" not in str(refused.value) + repr(wrong)
        with RegistryClient(Access(), lock_directory=tmp_path) as client, pytest.raises(RegistryRefused, match="none"):
            client.ping(address)


def test_a_blob_whose_link_was_cut_off_by_a_full_disk_is_sent_and_mounted_anew(
    tmp_path: Path, client: RegistryClient
) -> None:
    """docker-registry leaves an empty file then, and answers 500 whenever it comes by it."""
    with running_registry(tmp_path / "storage") as address:
        source, target = Repository(address, "source"), Repository(address, "target")
        blob = client.blobs.push_bytes(source, b"content", "application/octet-stream")
        client.images.copy_blob(source, blob, target, tmp_path)
        for repository in (source, target):
            (link,) = (tmp_path / "storage").glob(f"**/{repository.name}/_layers/sha256/*/link")
            link.write_text("")
            with pytest.raises(RegistryUnavailable):
                client.blobs.size(repository, blob.digest)
        client.blobs.push_bytes(source, b"content", "application/octet-stream")
        client.images.copy_blob(source, blob, target, tmp_path)
        assert [client.blobs.size(repository, blob.digest) for repository in (source, target)] == [blob.size] * 2
