"""OCI documents have one spelling each, and foreign ones are read with care."""

import json
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from builder.image.canonical_json import canonical_json
from builder.image.digests import DigestInvalid, digest_of, hex_of, parse_digest
from builder.image.documents import (
    CONFIG,
    DOCKER_MANIFEST,
    EMPTY_DESCRIPTOR,
    Descriptor,
    DocumentInvalid,
    History,
    ImageConfig,
    Manifest,
    RootFS,
    Runtime,
    parse_config,
    parse_index,
    parse_manifest,
    ports,
)
from builder.image.layer import MEDIA_TYPE, write_layer
from builder.image.layout import LayoutInvalid, read_layout, write_layout

LAYER = Descriptor(media_type=MEDIA_TYPE, digest=digest_of(b"layer"), size=5)


def an_image(directory: Path) -> tuple[Manifest, bytes, Path]:
    layer = write_layer([bytes(1024)], directory / "layer.gz")
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        created="2024-01-01T00:00:00Z",
        config=Runtime(user="1000", exposed_ports=ports({80: "tcp"}), cmd=("nginx",), labels={"b": "2", "a": "1"}),
        rootfs=RootFS(diff_ids=(layer.diff_id,)),
        history=(History(created="2024-01-01T00:00:00Z", created_by="goldsmith"),),
    ).to_bytes()
    manifest = Manifest(
        config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)),
        layers=(Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size),),
    )
    return manifest, config, layer.path


def test_a_config_is_written_with_the_names_of_the_specification(tmp_path: Path) -> None:
    _, config, _ = an_image(tmp_path)
    assert json.loads(config) == {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "User": "1000",
            "ExposedPorts": {"80/tcp": {}},
            "Cmd": ["nginx"],
            "Labels": {"a": "1", "b": "2"},
        },
        "rootfs": {"type": "layers", "diff_ids": [parse_config(config).rootfs.diff_ids[0]]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "goldsmith"}],
    }


def test_the_empty_descriptor_is_the_one_in_the_specification() -> None:
    assert EMPTY_DESCRIPTOR.digest == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert EMPTY_DESCRIPTOR.size == 2


def test_a_document_written_and_read_is_the_same_bytes(tmp_path: Path) -> None:
    manifest, config, _ = an_image(tmp_path)
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert parse_manifest(manifest.to_bytes()).to_bytes() == manifest.to_bytes()
    assert parse_config(config).to_bytes() == config


def test_a_manifest_of_docker_is_accepted() -> None:
    foreign = Manifest(media_type=DOCKER_MANIFEST, config=EMPTY_DESCRIPTOR, layers=(LAYER,)).to_bytes()
    assert parse_manifest(foreign).layers == (LAYER,)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{}", "config"),
        (b"[]", "object"),
        (b"\xff", "cannot be read"),
        (b'{"mediaType":"text/plain"}', "text/plain"),
        (b'{"manifests":[]}', "was expected"),
        (b'{"schemaVersion":1,"config":{},"layers":[]}', "schemaVersion"),
        (b'{"config":{"mediaType":"x","digest":"sha256:ABC","size":1},"layers":[]}', "not a digest"),
        (b'{"config":{"mediaType":"x","digest":"sha512:00","size":1},"layers":[]}', "not a digest"),
        (b" " * (5 * 1024 * 1024), "at most"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_reason(data: bytes, says: str) -> None:
    with pytest.raises(DocumentInvalid, match=says):
        parse_manifest(data)


def test_an_index_is_not_taken_for_a_manifest_nor_the_other_way_round() -> None:
    manifest = Manifest(config=EMPTY_DESCRIPTOR, layers=()).to_bytes()
    with pytest.raises(DocumentInvalid):
        parse_index(manifest)


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "g" * 64, "SHA256:" + "0" * 64, "sha256:" + "0" * 64 + "\n"]
)
def test_only_a_sha256_digest_is_a_digest(text: str) -> None:
    with pytest.raises(DigestInvalid):
        parse_digest(text)
    with pytest.raises(DigestInvalid):
        hex_of(text)


@given(
    st.recursive(
        st.text(st.characters(exclude_categories=["Cs"])) | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=126)), inner),
        max_leaves=20,
    )
)
def test_canonical_json_is_rfc_8785(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_a_layout_is_read_back_as_written(tmp_path: Path) -> None:
    manifest, config, layer = an_image(tmp_path)
    descriptor = write_layout(tmp_path / "layout", manifest, config, [layer], ref_name="latest")
    image = read_layout(tmp_path / "layout", architecture="amd64", ref_name="latest")
    assert (image.manifest, image.config_bytes, image.descriptor.digest) == (manifest, config, descriptor.digest)
    assert image.blob(manifest.layers[0].digest).read_bytes() == layer.read_bytes()


def test_a_layout_whose_blob_was_edited_is_refused(tmp_path: Path) -> None:
    manifest, config, layer = an_image(tmp_path)
    write_layout(tmp_path / "layout", manifest, config, [layer])
    blob = tmp_path / "layout" / "blobs" / "sha256" / hex_of(manifest.config.digest)
    blob.write_bytes(config.replace(b"nginx", b"xginx"))
    with pytest.raises(LayoutInvalid, match="other content"):
        read_layout(tmp_path / "layout")


def test_a_layer_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    manifest, config, _ = an_image(tmp_path)
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(LayoutInvalid, match="is not the layer"):
        write_layout(tmp_path / "layout", manifest, config, [tmp_path / "other"])
