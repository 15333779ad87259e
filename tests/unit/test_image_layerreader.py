"""A layer from elsewhere is checked before, while and after it is read."""

import gzip
import hashlib
import io
from pathlib import Path

import pytest
import zstandard

from builder.image.digests import digest_of
from builder.image.documents import Descriptor
from builder.image.layer import write_layer
from builder.image.layerreader import LayerInvalid, open_layer

GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DATA = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(100_000)) + bytes(5_000_000)


def opened(directory: Path, blob: bytes, media_type: str = GZIP, diff_id: str | None = None) -> bytes:
    path = directory / "blob"
    path.write_bytes(blob)
    descriptor = Descriptor(media_type=media_type, digest=digest_of(blob), size=len(blob))
    out = io.BytesIO()
    with open_layer(path, descriptor, diff_id or digest_of(DATA)) as stream:
        while chunk := stream.read(65536):
            out.write(chunk)
    return out.getvalue()


@pytest.mark.parametrize(
    ("blob", "media_type"),
    [
        (gzip.compress(DATA), GZIP),
        (gzip.compress(DATA[:70_000]) + gzip.compress(DATA[70_000:]), "application/vnd.oci.image.layer.v1.tar+gzip"),
        (zstandard.compress(DATA), "application/vnd.oci.image.layer.v1.tar+zstd"),
        (DATA, "application/vnd.oci.image.layer.v1.tar"),
    ],
    ids=["gzip", "gzip in members", "zstd", "plain"],
)
def test_each_compression_is_read(tmp_path: Path, blob: bytes, media_type: str) -> None:
    assert opened(tmp_path, blob, media_type) == DATA


def test_a_layer_of_our_own_is_read(tmp_path: Path) -> None:
    layer = write_layer([DATA], tmp_path / "layer")
    assert opened(tmp_path, layer.path.read_bytes(), layer.media_type, layer.diff_id) == DATA


@pytest.mark.parametrize(
    ("blob", "media_type", "says"),
    [
        (gzip.compress(DATA)[:-9], GZIP, "ends too early"),
        (gzip.compress(DATA) + b"more", GZIP, "gzip"),
        (gzip.compress(DATA) + b"\0" * 10, GZIP, "not valid gzip"),
        (b"no gzip at all", GZIP, "not valid gzip"),
        (gzip.compress(DATA + b"x"), GZIP, "config says"),
        (b"", GZIP, "config says"),
        (zstandard.compress(DATA)[:-9], "application/vnd.oci.image.layer.v1.tar+zstd", "layer"),
        (DATA, "text/plain", "not known"),
    ],
)
def test_a_layer_that_is_not_what_it_says_is_refused(tmp_path: Path, blob: bytes, media_type: str, says: str) -> None:
    with pytest.raises(LayerInvalid, match=says):
        opened(tmp_path, blob, media_type)


def test_a_file_that_is_not_the_layer_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"other")
    descriptor = Descriptor(media_type=GZIP, digest=digest_of(b"blob"), size=5)
    with (
        pytest.raises(LayerInvalid, match="other content"),
        open_layer(tmp_path / "blob", descriptor, digest_of(b"")) as stream,
    ):
        stream.read(1)
