"""The bbolt writer against a small reader of the same format, written from the format's description."""

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder.scanning.sample import bolt

Tree = dict[bytes, "bytes | Tree"]


def read(data: bytes) -> Tree:
    metas = [struct.unpack_from("<IIIIQQQQQ", data, number * 4096 + 16) for number in (0, 1)]
    for number, meta in enumerate(metas):
        assert meta[:3] == (0xED0CDAED, 2, 4096)
        start = number * 4096 + 16
        assert bolt.fnv1a_64(data[start : start + 56]) == struct.unpack_from("<Q", data, start + 56)[0]
    newest = max(metas, key=lambda meta: meta[8])
    assert newest[7] * 4096 == len(data)
    return read_page(data, newest[4] * 4096, newest[4])


def read_page(data: bytes, offset: int, number: int) -> Tree:
    page, flags, count, _ = struct.unpack_from("<QHHI", data, offset)
    assert page == number
    found: Tree = {}
    keys = []
    for element in range(offset + 16, offset + 16 + 16 * count, 16):
        if flags == 0x01:
            position, size, child = struct.unpack_from("<IIQ", data, element)
            keys.append(data[element + position : element + position + size])
            part = read_page(data, child * 4096, child)
            assert next(iter(part)) == keys[-1], "a branch's key is its child's first key"
            found |= part
        else:
            assert flags == 0x02
            is_bucket, position, size, value_size = struct.unpack_from("<IIII", data, element)
            start = element + position
            keys.append(data[start : start + size])
            value = data[start + size : start + size + value_size]
            assert len(value) == value_size
            found[keys[-1]] = read_bucket(data, value) if is_bucket else value
    assert keys == sorted(set(keys)), "bbolt finds keys by bisection"
    return found


def read_bucket(data: bytes, value: bytes) -> Tree:
    root, _ = struct.unpack_from("<QQ", value)
    return read_page(data, root * 4096, root) if root else read_page(value, 16, 0)


KEYS = st.binary(min_size=1, max_size=40)
VALUES = st.binary(max_size=60) | st.integers(0, 9000).map(lambda size: b"v" * size)
TREES = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=30),
    lambda inner: st.dictionaries(KEYS, VALUES | inner, max_size=12),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_whatever_is_written_is_read_back(tree: Tree) -> None:
    assert read(bolt.write(tree)) == tree


@settings(max_examples=20, deadline=None)
@example(3000, 20)
@example(9, 5000)
@given(st.integers(1, 300), st.integers(1, 5000))
def test_many_keys_of_any_length_become_branches_of_branches(count: int, length: int) -> None:
    tree = {f"{number:0{length}d}".encode(): b"x" for number in range(count)}
    assert read(bolt.write(tree)) == tree


@settings(max_examples=50, deadline=None)
@given(TREES)
def test_the_order_of_insertion_does_not_change_the_bytes(tree: Tree) -> None:
    assert bolt.write(dict(reversed(list(tree.items())))) == bolt.write(tree)


@settings(max_examples=50, deadline=None)
@given(TREES)
def test_the_meta_pages_promise_exactly_the_size_of_the_file(tree: Tree) -> None:
    data = bolt.write(tree)
    assert bolt.size_promised_by(data[: 2 * bolt.LARGEST_PAGE_SIZE]) == len(data)


def test_the_second_meta_page_is_enough_when_the_first_is_torn() -> None:
    data = bytearray(bolt.write({b"key": b"value"}))
    data[16:80] = bytes(64)
    assert bolt.size_promised_by(bytes(data)) == len(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=9000))
def test_random_bytes_promise_nothing(data: bytes) -> None:
    with pytest.raises(ValueError, match="no valid meta page"):
        bolt.size_promised_by(data)


def test_the_checksum_is_fnv_1a() -> None:
    # The published vectors of FNV-1a, 64 bits.
    assert bolt.fnv1a_64(b"") == 0xCBF29CE484222325
    assert bolt.fnv1a_64(b"foobar") == 0x85944171F73967E8


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        bolt.write({b"": b"value"})
