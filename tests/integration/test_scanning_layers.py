"""What the scanner remembers of layers changes how long a scan takes, and nothing else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from builder.scanning.findings import ScanResult
from builder.scanning.layers import LayerMemory
from tests.integration.scanning_server import BOOKWORM, install, registry, scanner


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as server:
        yield server.push("staging/bookworm", BOOKWORM)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    install(tmp_path / "cache")
    return tmp_path / "cache"


def memory_of(cache: Path) -> Path:
    (found,) = (cache / "layers").glob("*/fanal/fanal.db")
    return found


def said(result: ScanResult) -> tuple[object, ...]:
    return result.findings, result.package_count, result.operating_system


def test_a_second_scan_finds_the_same_and_reads_no_layer(tmp_path: Path, cache: Path) -> None:
    with registry(tmp_path / "registry") as server:
        image = server.push("staging/bookworm", BOOKWORM)
        first = scanner(cache).scan(image)
        layer = max((tmp_path / "registry").rglob("data"), key=lambda blob: blob.stat().st_size)
        layer.write_bytes(b"not what it was")
        second = scanner(cache).scan(image)
    assert said(first) == said(second)
    assert first.findings.secrets
    assert first.findings.vulnerabilities


def test_a_new_database_is_asked_about_remembered_layers(image: str, cache: Path) -> None:
    before = scanner(cache).scan(image)
    install(cache, age=timedelta(minutes=5))
    after = scanner(cache).scan(image)
    assert before.database.updated_at < after.database.updated_at
    assert said(before) == said(after)


def test_a_damaged_memory_is_given_up_and_not_believed(image: str, cache: Path) -> None:
    whole = scanner(cache).scan(image)
    memory_of(cache).write_bytes(b"\xff" * 65536)
    assert said(scanner(cache).scan(image)) == said(whole)
    assert not list((cache / "layers").glob("*/fanal/fanal.db"))
    assert said(scanner(cache).scan(image)) == said(whole)
    assert memory_of(cache).stat().st_size > 0


def test_while_one_scan_has_the_memory_others_do_without(image: str, cache: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: scanner(cache).scan(image), range(3)))
    assert len({repr(said(result)) for result in results}) == 1


def test_a_memory_is_lent_to_one_at_a_time_and_forgotten_for_another_scanner(tmp_path: Path) -> None:
    memory, database = LayerMemory(tmp_path / "layers"), tmp_path / "database"
    with memory.borrowed("a" * 64, database) as first, memory.borrowed("a" * 64, database) as second:
        assert first is not None
        assert second is None
        (first / "fanal").mkdir()
        assert (first / "db").readlink() == database / "db"
    with memory.borrowed("b" * 64, database) as other:
        assert other is not None
        assert not first.exists()
