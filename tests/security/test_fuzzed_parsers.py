"""Every parser that meets bytes from outside takes them or says what is wrong with them, and does nothing else.

Bytes are made from valid ones by what attackers and bad disks do to them. CI tries a few hundred of each; `scripts/fuzz
SECONDS` goes on for as long as it is told, from another seed each time.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import GoldsmithError
from builder.image import documents
from builder.image.digests import digest_of
from builder.image.inventory import open_inventory, write_inventory
from builder.image.layerreader import open_layer
from builder.image.tarstream import read_hashed
from builder.ledger.note import parse_key, parse_note
from builder.planning.debs import made_at
from builder.planning.indexes import packages_in
from builder.planning.lockfile import format_lock, parse_lock
from builder.policy.exceptions_openvex import read_document, usable_statements
from builder.policy.reading import read_policy
from builder.recipes.reading import read_recipe
from builder.registry.reference import parse_reference
from builder.registry.tokens import parse_challenge
from builder.scanning.report import read_report
from builder.signing.verification import _parse as parse_bundle
from builder.verification.archive import read_archive
from tests.unit.evidence_archives import write_members
from tests.unit.locks import lock
from tests.unit.test_image_inventory import ENTRIES
from tests.unit.test_ledger_note import EXAMPLE, PETER
from tests.unit.test_scanning_report import REFERENCE, encoded

DIGEST = "sha256:" + "a" * 64
RECIPE = b"""\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: web, description: "a \\u00e9"}
spec:
  base: {debian: {suite: trixie}}
  packages: [nginx-light=1.26.3-3, curl]
  files:
    - path: /etc/x
      content: |
        a
  run: [[ldconfig], {shell: "true", network: true}, {command: [a, b], secrets: [TOKEN]}]
  tests: [{command: ["true"], stdout: {matches: "a+"}}, {http: {port: 80}}]
  publish: {repository: golden/web, tags: [latest]}
"""
_DESCRIPTOR = {"mediaType": documents.CONFIG, "digest": DIGEST, "size": 7}
MANIFEST = json.dumps(
    {"schemaVersion": 2, "mediaType": documents.MANIFEST, "config": _DESCRIPTOR, "layers": [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 9}],
     "annotations": {"a": "b"}}
).encode()  # fmt: skip
INDEX = json.dumps(
    {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": documents.MANIFEST, "digest": DIGEST, "size": 7,
         "platform": {"architecture": "amd64", "os": "linux"}}]}
).encode()  # fmt: skip
CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {"Env": ["A=b"]},
     "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, "history": [{"created_by": "x", "empty_layer": True}]}
).encode()  # fmt: skip
PACKAGES = (
    b"Package: a\nVersion: 1:2-3\nArchitecture: all\nSize: 12\nFilename: pool/a/a_2.deb\nSHA256: " + b"a" * 64 + b"\n\n"
)
DEB = b"!<arch>\ndebian-binary   1700000000  0     0     100644  4         `\n2.0\n"
BUNDLE = json.dumps(
    {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
     "verificationMaterial": {"certificate": {"rawBytes": "MIIB"}, "tlogEntries": [
         {"logIndex": "1", "logId": {"keyId": "aaaa"}, "kindVersion": {"kind": "dsse", "version": "0.0.1"},
          "integratedTime": "1", "inclusionPromise": {"signedEntryTimestamp": "aaaa"},
          "inclusionProof": {"logIndex": "1", "rootHash": "aaaa", "treeSize": "2", "hashes": ["aaaa"],
                             "checkpoint": {"envelope": "x\n2\naaaa\n"}}, "canonicalizedBody": "e30="}]},
     "dsseEnvelope": {"payload": base64.b64encode(b"{}").decode(), "payloadType": "application/vnd.in-toto+json",
                      "signatures": [{"sig": "aaaa"}]}}
).encode()  # fmt: skip
VEX = json.dumps(
    {"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://a.example/1", "author": "a", "version": 1,
     "timestamp": "2026-01-01T00:00:00Z", "statements": [
         {"vulnerability": {"name": "CVE-2026-1"}, "status": "not_affected", "products": [{"@id": "pkg:deb/debian/a"}],
          "justification": "component_not_present"}]}
).encode()  # fmt: skip
POLICY = b"apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {name: p, version: '1'}\nspec: {rules: {tests: {}}}\n"
CHALLENGE = b'Bearer realm="https://a.example/token",service="b",scope="repository:x:pull"'


@cache
def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, link in (("d", b"5", ""), ("d/" + "long" * 40, b"0", ""), ("l", b"2", "d"), ("h", b"1", "d/x")):
            header = tarfile.TarInfo(name)
            header.type, header.linkname, header.pax_headers = kind, link, {"SCHILY.xattr.user.x": "y"}
            header.size = 5 if kind == b"0" else 0
            archive.addfile(header, io.BytesIO(b"hello"))
    return buffer.getvalue()


@cache
def inventory() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        write_inventory(ENTRIES, Path(directory) / "inventory")
        return (Path(directory) / "inventory").read_bytes()


@cache
def evidence() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        members = {"manifest.json": MANIFEST, "config.json": CONFIG, "bundles/provenance.json": BUNDLE}
        return write_members(Path(directory) / "archive.tar", members).read_bytes()


def from_file(parse: Callable[[Path], object]) -> Callable[[bytes], object]:
    def parsed(data: bytes) -> object:
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
            file.write(data)
            file.flush()
            return parse(Path(file.name))

    return parsed


def _inventory(path: Path) -> object:
    with open_inventory(path) as (header, records):
        return header, list(records)


def _layer(media_type: str) -> Callable[[bytes], object]:
    def parse(path: Path) -> object:
        data = path.read_bytes()
        described = documents.Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))
        with open_layer(path, described, DIGEST) as stream:
            return list(read_hashed(stream))

    return from_file(parse)


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", "replace"))


_LAYER = "application/vnd.oci.image.layer.v1.tar"
PARSERS: dict[str, tuple[Callable[[bytes], object], Callable[[], bytes]]] = {
    "recipe": (read_recipe, lambda: RECIPE),
    "policy": (read_policy, lambda: POLICY),
    "lock": (parse_lock, lambda: format_lock(lock()).encode()),
    "tar": (lambda data: list(read_hashed(io.BytesIO(data))), tar),
    "layer, gzip": (_layer(f"{_LAYER}+gzip"), lambda: gzip.compress(tar(), mtime=0)),
    "layer, zstd": (_layer(f"{_LAYER}+zstd"), lambda: zstandard.ZstdCompressor().compress(tar())),
    "manifest": (documents.parse_manifest, lambda: MANIFEST),
    "index": (documents.parse_index, lambda: INDEX),
    "configuration": (documents.parse_config, lambda: CONFIG),
    "kind of document": (documents.media_type_of, lambda: INDEX),
    "inventory": (from_file(_inventory), inventory),
    "index of packages": (
        from_file(lambda path: list(packages_in(path, frozenset({"a" * 64}), None))),
        lambda: PACKAGES,
    ),
    "package": (from_file(made_at), lambda: DEB),
    "bundle": (parse_bundle, lambda: BUNDLE),
    "signed note": (parse_note, lambda: EXAMPLE.encode()),
    "key of a note": (_text(parse_key), lambda: PETER.encode()),
    "evidence archive": (from_file(read_archive), evidence),
    "Trivy's report": (lambda data: read_report(data, REFERENCE), encoded),
    "VEX document": (lambda data: usable_statements(read_document(data)[0]), lambda: VEX),
    "reference": (_text(parse_reference), lambda: f"registry.example:5000/a/b@{DIGEST}".encode()),
    "challenge": (_text(lambda text: parse_challenge("r", text)), lambda: CHALLENGE),
}

# Of the right form, and not what they say they are.
UNBELIEVED = ("bundle", "evidence archive", "layer, gzip", "layer, zstd")

# What parsers trip over.
TOKENS = [
    b"\0", b"\xff", b"\xed\xa0\x80", b"\n", b"\r\n", b"\xe2\x80\xae", b"{", b"[" * 2000, b"}" * 5, b'"', b"'", b"&a ",
    b"*a", b"!!python/object:os.system ", b"<<: ", b"? ", b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 400, b"null",
    b"\\ud800", b"../../", b"//", b"sha256:", b"99999999999999999999", b"0x", b"\t", b": ", b"- ", b"|", b"%",
    b"\x1b[2J",
]  # fmt: skip


@st.composite
def spoiled(draw: st.DrawFn, seed: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 80)))
        match draw(st.sampled_from(["flip", "cut", "token", "copy", "noise", "end"])):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:end]
            case "token":
                data[at:at] = draw(st.sampled_from(TOKENS))
            case "copy":
                data[at:at] = data[at:end] * draw(st.integers(1, 20))
            case "noise":
                data[at:end] = draw(st.binary(max_size=40))
            case _:
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", PARSERS)
def test_whatever_comes_it_is_parsed_or_refused(name: str) -> None:
    parse, seed = PARSERS[name]

    @settings(max_examples=max(300, settings().max_examples), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=300) | spoiled(seed()))
    def attempt(data: bytes) -> None:
        try:
            parse(data)
        except GoldsmithError as error:
            told.append(error.problem().detail)

    told: list[str] = []
    if name not in UNBELIEVED:
        parse(seed())
    attempt()
    assert told
    assert all(told)
