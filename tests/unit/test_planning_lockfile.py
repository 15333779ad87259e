"""Locks as files: what is written is read, a change is a line, and what could do harm is refused by its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.planning.lock import Lock
from builder.planning.lockfile import (
    LockInvalid,
    format_lock,
    lock_data,
    lock_from_data,
    lock_path,
    parse_lock,
    read_lock_beside,
)
from tests.unit.locks import lock, locks, on_image, package


def read(text: str) -> Lock:
    return parse_lock(text.encode(), source="web.lock.json")


def refused(text: str | bytes) -> LockInvalid:
    with pytest.raises(LockInvalid) as caught:
        parse_lock(text.encode() if isinstance(text, str) else text, source="web.lock.json")
    assert caught.value.detail.startswith("web.lock.json: ")
    assert "goldsmith recipe lock" in (caught.value.hint or "")
    return caught.value


class TestWriting:
    @given(locks())
    def test_then_reading_gives_the_same_lock(self, made: Lock) -> None:
        assert read(format_lock(made)) == made
        assert read(format_lock(made)).digest == made.digest
        assert format_lock(read(format_lock(made))) == format_lock(made)

    @given(locks())
    def test_as_data_and_back_gives_the_same_lock(self, made: Lock) -> None:
        assert lock_from_data(json.loads(json.dumps(lock_data(made)))) == made

    @given(locks())
    def test_gives_each_package_a_line_of_its_own(self, made: Lock) -> None:
        lines = [line.strip().rstrip(",") for line in format_lock(made).splitlines()]
        for one in made.all_packages:
            data = one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            assert lines.count(json.dumps(data, ensure_ascii=False)) == made.all_packages.count(one)

    def test_another_version_is_one_line_less_and_one_line_more(self) -> None:
        after = lock(packages=(package("hello", "2.12-1", "3" * 64),))
        diff = list(unified_diff(format_lock(lock()).splitlines(), format_lock(after).splitlines(), n=0))[3:]
        assert [line[0] for line in diff] == ["-", "+"]
        assert '"version": "2.10-3"' in diff[0]
        assert '"version": "2.12-1"' in diff[1]

    def test_ends_with_a_line_end_and_is_readable(self) -> None:
        text = format_lock(lock())
        assert text.endswith("}\n")
        assert text.startswith('{\n  "version": 1,\n  "builder": "goldsmith 0",\n')
        assert max(len(line) for line in text.splitlines()) < 250


class TestReading:
    @pytest.mark.parametrize(
        ("text", "line", "column"),
        [("", 1, 1), ("{\n  version: 1\n}", 2, 3), ('{"a": 1}\n<<<<<<< HEAD', 2, 1), ('{\n "a": tru\n}', 2, 7)],
    )
    def test_what_is_not_json_is_told_with_line_and_column(self, text: str, line: int, column: int) -> None:
        error = refused(text)
        assert [(fault.line, fault.column) for fault in error.errors] == [(line, column)]
        assert f"line {line}, column {column}: not JSON" in error.detail

    def test_a_key_that_stands_twice_is_refused_for_only_one_of_them_could_count(self) -> None:
        twice = format_lock(lock()).replace('"epoch": 1700000000', '"epoch": 1, "epoch": 1700000000')
        assert "the key 'epoch' stands twice" in refused(twice).detail
        inside = format_lock(lock()).replace('"sha256": "2', '"sha256": "3", "sha256": "2')
        assert "the key 'sha256' stands twice" in refused(inside).detail

    @pytest.mark.parametrize(
        "text", [b"[]", b'"x"', b"7", b"null", b"\xff\xfe", b"[" * 5000, b"{" * 9, b'{"version": ' + b"7" * 5000 + b"}",
                 b'{"builder": "\\ud800"}', b"[" * 900 + b"]" * 900, b'{"a":' * 3000 + b"1" + b"}" * 3000]
    )  # fmt: skip
    def test_what_is_json_of_some_other_sort_is_refused_too(self, text: bytes) -> None:
        refused(text)

    def test_what_is_larger_than_any_lock_is_not_even_parsed(self) -> None:
        assert "larger than 4194304 bytes" in refused(b" " * (4 * 1024 * 1024 + 1)).detail

    @given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
    def test_any_bytes_are_read_or_refused(self, text: bytes) -> None:
        with pytest.raises(LockInvalid):
            parse_lock(text)


def with_package(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data["packages"][0].update(changes)

    return change


def with_base(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data["base"].update(changes)

    return change


def with_member(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data[name] = value

    return change


FAULTS: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("version", with_member("version", 2)),
    ("epok", with_member("epok", 1)),
    ("epoch", with_member("epoch", -1)),
    ("epoch", with_member("epoch", 2**33)),
    ("epoch", with_member("epoch", float("nan"))),
    ("packages.0.sah256", with_package(sah256="0" * 64)),
    ("packages.0.size", with_package(size=-1)),
    ("packages.0.size", with_package(size=2**53)),
    ("packages.0.sha256", with_package(sha256="0" * 63)),
    ("packages.0.sha256", with_package(sha256="0" * 63 + "\n")),
    ("packages.0.sha256", with_package(sha256="A" * 64)),
    ("packages.0.sha256", with_package(sha256="../" * 21 + "a")),
    ("packages.0.name", with_package(name="--setup-hook=sh")),
    ("packages.0.name", with_package(name="../hello")),
    ("packages.0.name", with_package(name="hello\n")),
    ("packages.0.name", with_package(name="")),
    ("packages.0.version", with_package(version="-o")),
    ("packages.0.version", with_package(version="1/../../x")),
    ("packages.0.architecture", with_package(architecture="-amd64")),
    ("packages.0.architecture", with_package(architecture="amd64/..")),
    ("packages.0.path", with_package(path="/etc/shadow")),
    ("packages.0.path", with_package(path="pool/../../etc/shadow")),
    ("packages.0.path", with_package(path="pool//x")),
    ("packages.0.path", with_package(path="-o/Dir=x")),
    ("packages.0.path", with_package(path="pool/-x")),
    ("packages.0.path", with_package(path="pool/a b")),
    ("packages.0.path", with_package(path="pool/x?y")),
    ("base.suite", with_base(suite="--customize-hook=touch /tmp/x")),
    ("base.suite", with_base(suite="../trixie")),
    ("base.suite", with_base(suite="trixie main")),
    ("base.architecture", with_base(architecture="--x")),
    ("base.image", with_base(image="-x@sha256:" + "0" * 64)),
    ("base.image", with_base(image="registry.example/a:latest")),
    ("base.image", with_base(image="sha256:" + "0" * 63)),
    ("files.0.sha256", with_member("files", [{"path": "/a", "sha256": "x"}])),
    ("archives.0.releaseSha256", with_member("archives", [{"suite": "a", "label": "b", "date": "c"}])),
    ("requested.base", with_member("requested", {"base": {}})),
    ("requested.base.debian.suite", with_member("requested", {"base": {"debian": {"suite": "--x"}}})),
]  # fmt: skip


@pytest.mark.parametrize(("field", "change"), FAULTS)
def test_what_a_lock_must_not_say_is_refused_by_its_field(field: str, change: Callable[[dict[str, Any]], None]) -> None:
    data = lock_data(lock())
    change(data)
    error = refused(json.dumps(data))
    assert field in [fault.field for fault in error.errors]
    assert field in error.detail


def test_many_faults_are_told_but_not_without_end() -> None:
    data = lock_data(lock())
    data["packages"] = [{"name": "x"}] * 5000
    error = refused(json.dumps(data))
    assert len(error.errors) == 20
    assert len(error.detail) < 400


class TestBesideItsRecipe:
    def test_a_lock_is_found_by_its_name(self, tmp_path: Path) -> None:
        assert lock_path(tmp_path / "web.yaml") == tmp_path / "web.lock.json"
        (tmp_path / "web.lock.json").write_text(format_lock(lock()))
        assert read_lock_beside(tmp_path / "web.yaml") == lock()

    def test_none_is_none(self, tmp_path: Path) -> None:
        assert read_lock_beside(tmp_path / "web.yaml") is None

    def test_a_fault_in_it_names_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "web.lock.json").write_text("{")
        with pytest.raises(LockInvalid, match=r"^web\.lock\.json: line 1, column 2: not JSON"):
            read_lock_beside(tmp_path / "web.yaml")

    def test_what_is_no_file_is_told_with_its_path(self, tmp_path: Path) -> None:
        (tmp_path / "web.lock.json").mkdir()
        with pytest.raises(LockInvalid, match=r"web\.lock\.json: Is a directory"):
            read_lock_beside(tmp_path / "web.yaml")


def test_a_lock_on_another_recipes_image_names_no_registry() -> None:
    text = format_lock(on_image("sha256:" + "a" * 64, "debian"))
    assert "registry" not in text
    assert read(text).base.image_digest == "sha256:" + "a" * 64


def test_numbers_that_no_json_reader_agrees_on_are_refused_in_data_too() -> None:
    with pytest.raises(LockInvalid):
        lock_from_data({**lock_data(lock()), "epoch": 10**5000})
