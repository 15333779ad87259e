"""`goldsmith inventory`, and inventories that are taken here and compared there."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from builder.cli.main import main
from builder.forensics.subjects.listed import InventorySubject
from builder.image.inventory import open_inventory
from tests.integration.published import Golden, Publisher, publishing
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def publisher(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with (
        running_registry(tmp_path_factory.mktemp("registry")) as address,
        publishing(address, sandbox, tmp_path_factory.mktemp("publisher")) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def golden(publisher: Publisher) -> Golden:
    made = publisher.image("good")
    made.sign()
    made.attach_inventory()
    return made


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """What the golden image holds, on a disk."""
    root = tmp_path / "rootfs"
    for path, data in {"etc/conf": b"a=1\n", "usr/bin/tool": b"good"}.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)
    return root


def root_of(path: Path) -> str:
    with open_inventory(path) as (header, records):
        assert len(list(records)) == header.entries
    return header.root


def test_every_kind_of_subject_has_the_root_of_the_golden_inventory(
    golden: Golden, rootfs: Path, tmp_path: Path, capsys: Output
) -> None:
    with tarfile.open("rootfs.tar.gz", "w:gz") as tar:
        tar.add(rootfs, ".")
    for number, subject in enumerate(
        (f"dir:{rootfs}", f"{rootfs}", "rootfs.tar.gz", golden.reference, "inventory:0.inventory")
    ):
        assert main(["inventory", subject, "-o", f"{number}.inventory"]) == 0
        assert "root sha256:" in capsys.readouterr().out
    (tmp_path / "golden").write_bytes(golden.inventory)
    roots = {root_of(path) for path in [tmp_path / "golden", *tmp_path.glob("*.inventory")]}
    assert roots == {root_of(tmp_path / "golden")}


def test_a_container_is_taken_with_its_id_and_what_is_mounted_in_it(
    golden: Golden, docker_engine: str, tmp_path: Path, capsys: Output
) -> None:
    engine = docker.DockerClient(base_url=docker_engine)
    engine.images.pull(golden.reference)
    made = engine.containers.create(golden.reference, volumes={str(tmp_path): {"bind": "/data"}})
    try:
        assert main(["inventory", str(made.name), "-o", "taken", "--engine", docker_engine]) == 0
    finally:
        made.remove(force=True)
        engine.images.remove(golden.reference, force=True)
        engine.close()
    assert "not looked at: what is mounted at /data (bind)" in capsys.readouterr().err
    taken = InventorySubject(Path("taken"))
    assert (taken.described.id, taken.described.image_digests) == (made.id, (golden.image.digest,))
    assert taken.unproven[0] == "what is mounted at /data (bind)"


def test_the_collector_that_is_written_gives_what_is_compared_elsewhere(
    golden: Golden, rootfs: Path, tmp_path: Path, capsys: Output
) -> None:
    assert main(["inventory", "--collector", "collector.py"]) == 0
    (rootfs / "etc/conf").write_bytes(b"a=2\n")
    command = [sys.executable, "-I", "-S", "collector.py", rootfs]
    Path("subject.jsonl").write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    assert main(["compare", golden.reference, "subject.jsonl", *golden.trust()]) == 3  # the file can be executed
    assert "/etc/conf" in capsys.readouterr().out


def test_the_signed_inventory_is_written_for_mtree_which_finds_a_change(
    golden: Golden, rootfs: Path, tmp_path: Path
) -> None:
    command = ["inventory", "--golden", golden.reference, *golden.trust()]
    assert main([*command, "--format", "mtree", "-o", "golden.mtree"]) == 0
    check = ["mtree", "-f", "golden.mtree", "-p", rootfs]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    (rootfs / "usr/bin/tool").write_bytes(b"evil")
    found = subprocess.run(check, capture_output=True, check=False)
    assert (found.returncode, b"usr/bin/tool" in found.stdout) == (2, True)
    assert main([*command, "-o", "golden.inventory"]) == 0
    assert Path("golden.inventory").read_bytes() == golden.inventory


def test_an_inventory_is_not_golden_that_nobody_signed(publisher: Publisher, sandbox: Sandbox, capsys: Output) -> None:
    unsigned = publisher.image("unsigned")
    unsigned.attach_inventory()
    command = ["inventory", "--golden", unsigned.reference, *unsigned.trust(), "--format", "mtree", "-o", "out"]
    assert main(command) == 1
    assert not Path("out").exists()
    assert "does not verify" in capsys.readouterr().err


def test_a_subject_that_cannot_be_read_to_its_end_leaves_no_inventory(
    rootfs: Path, tmp_path: Path, capsys: Output
) -> None:
    with tarfile.open("rootfs.tar", "w") as tar:
        tar.add(rootfs, ".")
    Path("rootfs.tar").write_bytes(Path("rootfs.tar").read_bytes()[:2048])
    assert main(["inventory", "rootfs.tar", "-o", "out"]) == 1
    assert not Path("out").exists()


@pytest.mark.parametrize("arguments", [[], ["web", "--golden", "x"], ["--collector", "c", "web"]])
def test_one_thing_is_asked_for_at_a_time(arguments: list[str]) -> None:
    assert main(["inventory", *arguments]) == 64
