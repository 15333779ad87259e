"""Between scan and signature somebody has the registry, or the way to it: what was scanned is released, or nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from builder.image.digests import digest_of, hex_of
from builder.image.documents import Descriptor, Index, Manifest, Platform, parse_manifest
from builder.pipeline.materials import RECIPE
from builder.registry.manifests import FetchedManifest
from builder.registry.reference import Repository
from tests.end_to_end.faults.world import Faulty

PATIENCE = 60.0


@dataclass(frozen=True)
class Staged:
    """An image that was scanned and passed the gate; its release has not begun."""

    faulty: Faulty
    build_id: str
    name: str
    digest: str

    @property
    def place(self) -> Repository:
        return Repository(self.faulty.stack.registry, f"staging/test/{self.name}")

    @property
    def manifest(self) -> Manifest:
        return parse_manifest(self.faulty.registry.manifests.get(self.place.at(self.digest)).data)

    @property
    def layer(self) -> Descriptor:
        """Its own one: the others are its base's."""
        return self.manifest.layers[-1]

    @property
    def material(self) -> Descriptor:
        """Its recipe: packages are others' materials, too."""
        digest = self.faulty.stored(self.build_id).evidence["build"]["materials_digest"]
        materials = parse_manifest(self.faulty.registry.manifests.get(self.place.at(digest)).data)
        return next(one for one in materials.layers if one.media_type == RECIPE)

    def stored(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        blobs = self.faulty.stack.state / "registry/docker/registry/v2/blobs/sha256"
        return blobs / hex_of(digest)[:2] / hex_of(digest) / "data"


@contextmanager
def scanned(faulty: Faulty) -> Iterator[Staged]:
    """A build that waits for its release, for the length of the block: whoever releases stands still."""
    name, release = f"swapped-{uuid4().hex[:8]}", faulty.stack.process("worker-release")
    os.killpg(release.pid(), signal.SIGSTOP)
    try:
        build_id = faulty.submit(faulty.tiny(name))
        faulty.until(build_id, lambda build: build["state"] == "scanned")
        yield Staged(faulty, build_id, name, str(faulty.stored(build_id).image_digest))
    finally:
        os.killpg(release.pid(), signal.SIGCONT)


def another_layer(staged: Staged) -> AbstractContextManager[None]:
    """As long as the right one."""
    return reversed_in_place(staged.stored(staged.layer.digest))


def another_material(staged: Staged) -> AbstractContextManager[None]:
    """The image is whole, but nobody could build it again."""
    return reversed_in_place(staged.stored(staged.material.digest))


def reversed_in_place(file: Path) -> AbstractContextManager[None]:
    file.write_bytes(bytes(reversed(file.read_bytes())))
    return nullcontext()


def an_index_of_two_platforms(staged: Staged) -> AbstractContextManager[None]:
    """The image itself, and one for another architecture."""
    right, manifests = staged.stored(staged.digest), staged.faulty.registry.manifests
    image = manifests.get(staged.place.at(staged.digest)).descriptor()
    index = Index(
        manifests=tuple(
            image.model_copy(update={"platform": Platform(os="linux", architecture=architecture)})
            for architecture in ("amd64", "arm64")
        )
    )
    right.write_bytes(index.to_bytes())
    return nullcontext()


def another_manifest(staged: Staged) -> AbstractContextManager[None]:
    """Whole and valid: that of the image that all others stand on."""
    staged.stored(staged.digest).write_bytes(base(staged.faulty).data)
    return nullcontext()


def an_answer_with_another_digest(staged: Staged) -> AbstractContextManager[None]:
    """What the registry says it has, under the digest that it was asked for, names a layer of somebody else's."""
    lie = digest_of(b"somebody else's")
    return staged.faulty.proxy.lying(staged.layer.digest.encode(), lie.encode())


def an_answer_with_other_content(staged: Staged) -> AbstractContextManager[None]:
    """The registry's storage is whole."""
    end = staged.stored(staged.layer.digest).read_bytes()[-32:]
    return staged.faulty.proxy.lying(end, bytes(len(end)))


@pytest.mark.parametrize(
    "swap",
    [
        another_layer,
        another_material,
        an_index_of_two_platforms,
        another_manifest,
        an_answer_with_another_digest,
        an_answer_with_other_content,
    ],
    ids=lambda swap: swap.__name__,
)
def test_what_was_swapped_is_found_out_and_neither_signed_nor_published(
    faulty: Faulty, swap: Callable[[Staged], AbstractContextManager[None]]
) -> None:
    logged = signatures(faulty)
    with ExitStack() as until_it_ends:
        with scanned(faulty) as staged:
            until_it_ends.enter_context(swap(staged))
        build = faulty.ended(staged.build_id, PATIENCE)
    assert build.state == "failed"
    assert build.problem is not None
    assert build.problem["type"] == "/problems/digest-mismatch"
    assert f"staging/test/{staged.name}" in build.problem["detail"]
    assert "sha256:" in build.problem["detail"]
    assert build.problem["hint"]
    assert signatures(faulty) == logged
    assert faulty.tags(f"test/{staged.name}") == []
    assert faulty.manifests(f"test/{staged.name}") == set()
    faulty.must_hold([staged.build_id])


def test_tags_that_were_moved_to_another_image_decide_nothing(faulty: Faulty) -> None:
    other = base(faulty)
    with scanned(faulty) as staged:
        released = Repository(faulty.stack.registry, f"test/{staged.name}")
        for place in (staged.place, released):
            faulty.registry.images.copy(other.repository, other.digest, place, spool_dir=faulty.faults)
            faulty.registry.manifests.put(place.tagged("latest"), other.data)
    build = faulty.ended(staged.build_id, PATIENCE)
    assert build.state == "released", build.problem
    assert build.image_digest == staged.digest
    assert faulty.registry.manifests.get(released.tagged("latest")).digest == staged.digest
    faulty.registry.manifests.delete(staged.place.at(other.digest))
    faulty.must_hold([staged.build_id])


def base(faulty: Faulty) -> FetchedManifest:
    """The image that all others stand on."""
    return faulty.registry.manifests.get(Repository(faulty.stack.registry, "golden/debian").tagged("latest"))


def signatures(faulty: Faulty) -> int:
    """How many entries the transparency log has."""
    return int(httpx.get(f"{faulty.stack.sigstore_url}/api/v1/log").raise_for_status().json()["treeSize"])
