"""From a canonical tree to the image's documents: layer, config, manifest, inventory."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder.engine.claims import Claims, parse_status
from builder.image.changes import diff
from builder.image.digests import digest_of
from builder.image.documents import CONFIG, Descriptor, Healthcheck, History, ImageConfig, Manifest, RootFS, Runtime
from builder.image.entry import EntryType
from builder.image.inventory import Inventory, write_inventory
from builder.image.layer import Layer
from builder.image.ownership import Ownership
from builder.image.tree import Tree
from builder.pipeline.base import Base
from builder.policy.facts import Account
from builder.policy.logins import accounts_of
from builder.recipes.model import Healthcheck as HealthcheckSpec
from builder.recipes.model import Recipe

_STANDARD = "org.opencontainers.image."
_NANOSECONDS = 1_000_000_000
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Composed:
    """A whole image on disk. `layer` is the one it adds, or None when it changes nothing; `blobs` are by digest.

    `claims` are what it says of itself; `accounts` are None where /etc/passwd is no plain file.
    """

    manifest: Manifest
    manifest_digest: str
    diff_ids: tuple[str, ...]
    layer: Layer | None
    inventory: Inventory
    blobs: Mapping[str, Path | bytes]
    packages: int
    claims: Claims
    accounts: tuple[Account, ...] | None


def compose(recipe: Recipe, tree: Tree, base: Base | None, architecture: str, spool: Path) -> Composed:
    """Write the layer and the inventory below `spool`. A child has its base's layers and at most one of its own."""
    with ThreadPoolExecutor(1, thread_name_prefix="inventory") as beside:
        listed = beside.submit(
            write_inventory, tree.entries, spool / "inventory.jsonl.zst", owner=Ownership(tree).owner
        )
        layer = _write_layer(tree, base, spool)
        inventory = listed.result()
    own = (Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size),) if layer else ()
    diff_ids = (*(base.config.rootfs.diff_ids if base else ()), *([layer.diff_id] if layer else ()))
    created = datetime.fromtimestamp(tree.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    standard = _annotations(recipe, base, created)
    config = ImageConfig(
        created=created,
        architecture=architecture,
        os="linux",
        config=_runtime(recipe, base.config.config if base else Runtime(env=(_PATH,)), standard),
        rootfs=RootFS(diff_ids=diff_ids),
        history=_history(recipe, base, created, empty=layer is None),
    ).to_bytes()
    manifest = Manifest(
        config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)),
        layers=(*(base.manifest.layers if base else ()), *own),
        annotations=standard,
    )
    blobs: dict[str, Path | bytes] = {manifest.config.digest: config}
    if layer is not None:
        blobs[layer.digest] = layer.path
    claims = Claims.of_tree(tree)
    return Composed(
        manifest,
        manifest.descriptor().digest,
        diff_ids,
        layer,
        inventory,
        blobs,
        len(parse_status(claims.status)),
        claims,
        _accounts(tree),
    )


def _accounts(tree: Tree) -> tuple[Account, ...] | None:
    """An image without /etc/passwd has no accounts; where it is a link, nobody knows them."""
    found = {}
    for name in (b"etc/passwd", b"etc/shadow"):
        entry = tree.get(name)
        if entry is not None and entry.type not in (EntryType.FILE, EntryType.HARDLINK):
            return None
        found[name] = tree.read(name) if entry is not None else None
    return accounts_of(found[b"etc/passwd"] or b"", found[b"etc/shadow"])


def _write_layer(tree: Tree, base: Base | None, spool: Path) -> Layer | None:
    target = spool / "layer.tar.gz"
    if base is None:
        return tree.write_layer(target)
    changes = diff(base.entries, tree.entries)
    return tree.write_layer(target, changes=changes) if changes else None


def _annotations(recipe: Recipe, base: Base | None, created: str) -> dict[str, str]:
    """The standard annotations (image-spec, annotations.md). Nothing in them depends on where the image is kept."""
    metadata = recipe.metadata
    found = {
        "created": created,
        "title": metadata.name,
        "description": metadata.description,
        "version": metadata.version,
        "source": metadata.source,
        "licenses": metadata.licenses,
        "base.digest": base.digest if base else None,
        "base.name": base.origin if base else None,
    }
    return {_STANDARD + name: value for name, value in found.items() if value}


def _runtime(recipe: Recipe, base: Runtime, standard: dict[str, str]) -> Runtime:
    """What the recipe says over what the base says; a new entrypoint takes the base's command away, as in Docker."""
    spec = recipe.spec
    environment = dict(pair.partition("=")[::2] for pair in base.env or ()) | dict(spec.environment)
    inherited = {k: v for k, v in (base.labels or {}).items() if not k.startswith(_STANDARD)}
    ports = dict(base.exposed_ports or {}) | {p if "/" in p else f"{p}/tcp": {} for p in spec.ports}
    command = tuple(spec.command) or (None if spec.entrypoint else base.cmd)
    return Runtime(
        # Stated even when it is root: scanners judge a user only where there is one.
        user=spec.user or base.user or "0:0",
        exposed_ports=ports or None,
        env=tuple(f"{name}={value}" for name, value in environment.items()) or None,
        entrypoint=tuple(spec.entrypoint) or base.entrypoint,
        cmd=command,
        volumes=base.volumes,
        working_dir=spec.working_directory or base.working_dir,
        labels={**inherited, **standard, **spec.labels} or None,
        stop_signal=spec.stop_signal or base.stop_signal,
        # A base's own would run where nobody asked for it.
        healthcheck=_healthcheck(spec.healthcheck),
    )


def _healthcheck(asked: HealthcheckSpec | None) -> Healthcheck | None:
    if asked is None:
        return None
    return Healthcheck(
        test=("CMD", *asked.command),
        interval=asked.interval_seconds * _NANOSECONDS,
        timeout=asked.timeout_seconds * _NANOSECONDS,
        start_period=asked.start_seconds * _NANOSECONDS,
        retries=asked.retries,
    )


def _history(recipe: Recipe, base: Base | None, created: str, *, empty: bool) -> tuple[History, ...] | None:
    if base is not None and base.config.history is None:
        # Engines count history against layers: half a history is worse than none.
        return None
    entry = History(created=created, created_by=f"goldsmith {recipe.metadata.name}", empty_layer=empty or None)
    return (*(base.config.history or () if base else ()), entry)
