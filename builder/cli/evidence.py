"""Where evidence about an image comes from: the registry that holds it, or the API. None of it is believed yet."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from builder.cli.invocation import Invocation
from builder.errors import GoldsmithError, Rejected, Unavailable
from builder.verification.evidence import Bundles, LedgerEvidence
from builder.verification.evidence import Evidence as Verifiable

if TYPE_CHECKING:
    from builder.image.layout import Image
    from builder.registry.access import Access
    from builder.registry.client import RegistryClient
    from builder.registry.manifests import FetchedManifest
    from builder.registry.reference import Repository

# As builder.pipeline publishes them; a client of the registry alone does not load the stages.
INVENTORY_TYPE = "application/vnd.goldsmith.inventory.v1+zstd"
SCAN_TYPE = "application/vnd.aquasec.trivy.report+json"
_MAX_BUNDLE = 64 * 1024 * 1024
_MAX_REPORT = 64 * 1024 * 1024
_HEX = re.compile("[0-9a-f]{64}")

DockerConfigOption = Annotated[
    Path | None,
    typer.Option("--docker-config", metavar="FILE", help="A Docker config.json with the registry's credentials."),
]
ImageArgument = Annotated[
    str,
    typer.Argument(
        metavar="REF|DIGEST",
        help="HOST/REPOSITORY@sha256:… or :TAG, checked against the registry; or a digest, asked of the API.",
        show_default=False,
    ),
]


class InventoryMissing(Rejected):
    slug = "inventory-missing"
    title = "The inventory of the image cannot be found"
    status = 404


class ConfigMismatch(Rejected):
    slug = "config-mismatch"
    title = "The config that was given is not the image's"


class Evidence(Verifiable, Protocol):
    """Besides what is verified, what a comparison needs."""

    def inventory(self, digest: str, destination: Path) -> None:
        """Put the inventory with this digest into a new file; the content has that digest. Raises InventoryMissing."""

    def scans(self) -> tuple[bytes, ...]:
        """The scanner's reports that are kept of the image."""

    def config(self) -> bytes | None:
        """The image's config, by the digest in the manifest whose digest was signed; None where it cannot be had."""

    def layout(self, directory: Path) -> Image | None:
        """The image with all its layers, in a new directory; None where it cannot be had."""


def digest_alone(image: str) -> str | None:
    """The digest, if the image is named by nothing else. Raises DigestInvalid."""
    from builder.image.digests import parse_digest

    # Hex digits alone are a digest that lost its beginning, not a reference that lacks its registry.
    return parse_digest(image) if image.startswith("sha256:") or _HEX.fullmatch(image) else None


def named_image(image: str, docker_config: Path | None) -> tuple[str, Repository | None]:
    """An image's digest and, unless the digest alone was given, its repository. Of a tag what the registry has now."""
    from builder.registry.client import RegistryClient
    from builder.registry.reference import parse_reference

    digest = digest_alone(image)
    if digest is not None:
        return digest, None
    reference = parse_reference(image)
    if reference.digest is not None:
        return reference.digest, reference.repository
    with (
        tempfile.TemporaryDirectory() as locks,
        RegistryClient(registry_access(docker_config), lock_directory=Path(locks)) as registry,
    ):
        return registry.manifests.get(reference).digest, reference.repository


@contextmanager
def evidence_of(invocation: Invocation, image: str, docker_config: Path | None) -> Iterator[Evidence]:
    """Raises ReferenceInvalid, DigestInvalid, and what the registry or the API raises."""
    from builder.registry.client import RegistryClient
    from builder.registry.reference import parse_reference

    digest = digest_alone(image)
    if digest is not None:
        yield _FromApi(invocation, digest)
        return
    reference = parse_reference(image)
    with (
        tempfile.TemporaryDirectory() as locks,
        RegistryClient(registry_access(docker_config), lock_directory=Path(locks)) as registry,
    ):
        yield _FromRegistry(registry, registry.manifests.get(reference), str(reference))


def registry_access(docker_config: Path | None) -> Access:
    """How to reach registries: as GOLDSMITH_* settings say, with the credentials of `docker_config` if it is given."""
    from builder.registry.access import Access
    from builder.registry.credentials import CredentialSource, DockerConfig, GivenCredentials, NoCredentials
    from builder.settings import load_settings

    settings = load_settings()
    credentials: CredentialSource = NoCredentials()
    if docker_config or settings.docker_config:
        credentials = DockerConfig(docker_config or settings.docker_config or Path())
    if docker_config is None and settings.registry_username and settings.registry_password_file:
        try:
            password = settings.registry_password_file.read_text("utf-8").strip()
        except OSError as error:
            raise Rejected(
                f"GOLDSMITH_REGISTRY_PASSWORD_FILE: {settings.registry_password_file} cannot be read: {error.strerror}"
            ) from error
        credentials = GivenCredentials(settings.registry, settings.registry_username, password)
    return Access(credentials=credentials, insecure=frozenset(settings.insecure_registries))


@dataclass(frozen=True)
class _FromApi:
    """By digest, from the server that made the image."""

    invocation: Invocation
    digest: str
    manifest_from: str | None = None

    @property
    def image(self) -> str:
        return self.digest

    def bundles(self) -> Bundles:
        with self.invocation.client() as client:
            return Bundles(tuple(client.attestations(self.digest)))

    def ledger(self) -> LedgerEvidence | None:
        from builder.client.errors import ApiProblem
        from builder.ledger.proof import parse_proof

        with self.invocation.client() as client:
            released = client.releases({"digest": self.digest}, limit=1)
            if not released:
                return None
            try:
                proof = client.ledger(f"proofs/inclusion?format=tlog-proof&record={released[0].record_digest}")
                index = parse_proof(proof).index
                return LedgerEvidence(
                    client.ledger(f"entries/{index}/record"), client.ledger(f"entries/{index}"), proof
                )
            except ApiProblem as error:
                if error.told.status == 404:
                    return None  # recorded, and the ledger not signed since
                raise

    def documents(self) -> dict[str, str]:
        return {}

    def inventory(self, digest: str, destination: Path) -> None:
        from builder.image.digests import digest_of

        with self.invocation.client() as client:
            content = client.inventory(self.digest)
            if digest_of(content) != digest:
                raise InventoryMissing(f"{client.url} gave {digest_of(content)} where the provenance names {digest}")
        destination.write_bytes(content)

    def scans(self) -> tuple[bytes, ...]:
        with self.invocation.client() as client:
            return (client.scan(self.digest),)

    def config(self) -> bytes | None:
        from builder.client.errors import ApiProblem
        from builder.image.digests import digest_of
        from builder.image.documents import parse_manifest

        with self.invocation.client() as client:
            try:
                manifest, config = client.manifest(self.digest), client.config(self.digest)
            except ApiProblem:
                return None  # the server's registry is away, or it knows no such question
            if digest_of(manifest) != self.digest or digest_of(config) != parse_manifest(manifest).config.digest:
                raise ConfigMismatch(f"{client.url} gave a manifest or config that is not the one of {self.digest}")
        return config

    def layout(self, directory: Path) -> None:
        del directory


@dataclass(frozen=True)
class _FromRegistry:
    """The referrers of a manifest that was fetched and hashed here."""

    registry: RegistryClient
    manifest: FetchedManifest
    image: str

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def manifest_from(self) -> str | None:
        return self.manifest.repository.registry

    def bundles(self) -> Bundles:
        from builder.registry.artifact import BUNDLE
        from builder.registry.attached import attached

        there = attached(self.registry, self.manifest.repository, self.digest, BUNDLE)
        found: list[bytes] = []
        unreadable = list(there.unreadable)
        for blob in there.blobs:
            try:
                found.append(self.registry.blobs.fetch(self.manifest.repository, blob, limit=_MAX_BUNDLE))
            except Unavailable:
                raise
            except GoldsmithError as error:
                unreadable.append(f"bundle {blob.digest}: {error.detail}")
        return Bundles(tuple(found), tuple(unreadable))

    def ledger(self) -> None:
        """A registry has none."""

    def documents(self) -> dict[str, str]:
        return {}

    def inventory(self, digest: str, destination: Path) -> None:
        from builder.registry.attached import attached

        for blob in attached(self.registry, self.manifest.repository, self.digest, INVENTORY_TYPE).blobs:
            if blob.digest == digest:
                self.registry.blobs.pull(self.manifest.repository, blob, destination)
                return
        raise InventoryMissing(
            f"{self.manifest.repository} has no inventory {digest} beside the image",
            hint="copy the image with its referrers, or give its digest alone to ask the API",
        )

    def scans(self) -> tuple[bytes, ...]:
        from builder.registry.attached import attached

        repository = self.manifest.repository
        there = attached(self.registry, repository, self.digest, SCAN_TYPE)
        return tuple(self.registry.blobs.fetch(repository, blob, limit=_MAX_REPORT) for blob in there.blobs)

    def config(self) -> bytes:
        from builder.image.documents import MAX_DOCUMENT, parse_manifest

        config = parse_manifest(self.manifest.data).config
        return self.registry.blobs.fetch(self.manifest.repository, config, limit=MAX_DOCUMENT)

    def layout(self, directory: Path) -> Image:
        return self.registry.images.pull(self.manifest.repository.at(self.digest), directory)
