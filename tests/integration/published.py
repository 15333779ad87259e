"""Small images in a registry, and beside them what a release attaches, or something worse."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.cli.evidence import INVENTORY_TYPE
from builder.image.canonical import canonicalise
from builder.image.digests import digest_of, hex_of
from builder.image.documents import CONFIG, EMPTY, Descriptor, ImageConfig, Manifest, RootFS, Runtime
from builder.image.inventory import write_inventory
from builder.recipes.reading import read_recipe, recipe_digest
from builder.registry.access import Access
from builder.registry.artifact import BUNDLE, artifact_manifest, bundle_manifest
from builder.registry.client import RegistryClient
from builder.registry.reference import Repository
from builder.signing.slsa import BuildDefinition, Builder, Provenance, ResourceDescriptor, RunDetails
from builder.signing.statement import REPRODUCTION, Statement, Subject
from tests.integration.sandbox_server import Sandbox
from tests.unit.cli_server import WEB_RECIPE

RECIPE = read_recipe(WEB_RECIPE + "  runtime: {writable: [/var/cache/tool]}\n")
RECIPE_DATA = RECIPE.model_dump(mode="json", by_alias=True, exclude_defaults=True)
BUILDER_ID = "https://goldsmith.example/builder"


class Publisher:
    """Pushes small images and attaches to them what a release would, or something worse."""

    def __init__(self, address: str, sandbox: Sandbox, client: RegistryClient, directory: Path) -> None:
        self.address, self.sandbox, self.client, self.directory = address, sandbox, client, directory

    def image(self, name: str) -> Golden:
        """A golden image `golden/NAME`, tagged `latest`, with nothing beside it."""
        files = {"etc/conf": b"a=1\n", "usr/bin/tool": name.encode()}
        directory = self.directory / name
        directory.mkdir()
        with canonicalise(io.BytesIO(archive(files)), spool_dir=directory, epoch=1_700_000_000) as tree:
            layer = tree.write_layer(directory / "layer.gz")
            inventory = write_inventory(tree.entries, directory / "inventory")
        config = ImageConfig(
            architecture="amd64",
            os="linux",
            config=Runtime(cmd=("/usr/bin/tool",)),
            rootfs=RootFS(diff_ids=(layer.diff_id,)),
        ).to_bytes()
        manifest = Manifest(
            config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)),
            layers=(Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size),),
        )
        repository = Repository(self.address, f"golden/{name}")
        blobs: dict[str, Path | bytes] = {layer.digest: layer.path, manifest.config.digest: config}
        self.client.blobs.push_bytes(repository, b"{}", EMPTY)
        image = self.client.images.push(repository, manifest, blobs, tag="latest")
        return Golden(self, repository, image, inventory.path.read_bytes())


@dataclass(frozen=True)
class Golden:
    """An image, and the inventory of its root file system, compressed."""

    publisher: Publisher
    repository: Repository
    image: Descriptor
    inventory: bytes

    @property
    def reference(self) -> str:
        return str(self.repository.at(self.image.digest))

    def statement(self, recipe_digest_told: str | None = None, inventory: bytes | None = None) -> Statement:
        described = ResourceDescriptor(
            name="inventory", digest={"sha256": hex_of(digest_of(inventory or self.inventory))}
        )
        return Provenance(
            build_definition=BuildDefinition(
                build_type="urn:goldsmith:build:v1",
                external_parameters={
                    "recipe": RECIPE_DATA,
                    "recipeDigest": recipe_digest_told or recipe_digest(RECIPE),
                },
            ),
            run_details=RunDetails(builder=Builder(id=BUILDER_ID), byproducts=(described,)),
        ).statement(Subject.of(str(self.repository), self.image.digest))

    def sign(self, statement: Statement | None = None) -> bytes:
        bundle = self.publisher.sandbox.signer().sign(statement or self.statement()).bundle
        self.attach_bundle(bundle)
        return bundle

    def reproduction(self, **changed: bool) -> Statement:
        """What a rebuilder says of an image that is the same; `changed` are members of `matched`."""
        matched = {"manifest": True, "config": True, "diffIds": True, "inventory": True, **changed}
        return Statement(
            subject=(Subject.of(str(self.repository), self.image.digest),),
            predicateType=REPRODUCTION,
            predicate={"matched": matched},
        )

    def attest(self, statement: Statement | None = None) -> None:
        """As a rebuild worker does, by the rebuilder's identity."""
        self.attach_bundle(self.publisher.sandbox.rebuilder().sign(statement or self.reproduction()).bundle)

    def attach_bundle(self, bundle: bytes) -> None:
        client = self.publisher.client
        blob = client.blobs.push_bytes(self.repository, bundle, BUNDLE)
        manifest = bundle_manifest(self.image, blob, predicate_type="any", created="2026-01-01T00:00:00Z")
        client.referrers.attach(self.repository, manifest)

    def attach_inventory(self, content: bytes | None = None) -> None:
        client = self.publisher.client
        blob = client.blobs.push_bytes(self.repository, content or self.inventory, INVENTORY_TYPE)
        client.referrers.attach(self.repository, artifact_manifest(self.image, blob, artifact_type=INVENTORY_TYPE))

    def trust(self, **changed: str) -> list[str]:
        """The options that say whom to trust."""
        sandbox = self.publisher.sandbox
        options = {"trusted-root": str(sandbox.trusted_root), "identity": sandbox.identity, "issuer": sandbox.issuer}
        return [part for name, value in {**options, **changed}.items() for part in (f"--{name}", value)]


@contextmanager
def publishing(registry: str, sandbox: Sandbox, directory: Path) -> Iterator[Publisher]:
    with RegistryClient(Access(), lock_directory=directory) as client:
        yield Publisher(registry, sandbox, client, directory)


def archive(files: dict[str, bytes], mode: int = 0o755) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.mtime = len(data), mode, 1_700_000_000
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
