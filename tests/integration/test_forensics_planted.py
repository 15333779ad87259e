"""Changes planted in a running container of a released image: exactly these are named, each once, with its gravity."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from builder.cli.main import main
from builder.forensics.report import Report
from builder.image.canonical import canonicalise
from builder.image.changes import diff
from builder.image.digests import digest_of
from builder.image.documents import CONFIG, EMPTY, Descriptor, ImageConfig, Manifest, RootFS, Runtime
from builder.image.inventory import write_inventory
from builder.registry.reference import Repository
from tests.integration.busybox import busybox_root
from tests.integration.published import Golden, Publisher, publishing
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox

Output = pytest.CaptureFixture[str]
EPOCH = 1_700_000_000
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000").decode()
FILES = {
    "etc/conf": b"a=1\n", "etc/gone": b"gone\n", "etc/app": b"x\n", "etc/turned": b"x\n", "srv/data": b"to be moved\n",
    "srv/owned": b"x\n", "srv/one": b"one\n", "srv/full": b"full\n", "usr/bin/tool": b"tool\n",
    "usr/bin/grouped": b"grouped\n", "usr/bin/capable": b"capable\n", "usr/linked-1": b"linked\n",
    "var/log/app.log": b"", "opt/lower/there": b"x\n",
}  # fmt: skip
DIRECTORIES = ("srv/dir", "srv/private", "srv/app")

PLANT = r"""
set -e
echo new > /srv/new
printf '#!/bin/sh\n' > /tmp/miner; chmod 755 /tmp/miner
rm /etc/gone
mv /srv/data /srv/elsewhere
printf 'a=2\n' > /etc/conf; touch -d '2023-11-14 22:13:20' /etc/conf
chmod 4755 /usr/bin/tool
chmod 2755 /usr/bin/grouped
chmod 666 /etc/app
chown 1000:1000 /srv/owned
ln -sfn /tmp /usr/bin/link
ln /srv/one /srv/two
cp /usr/linked-2 /usr/copy; mv /usr/copy /usr/linked-2
mknod /srv/disk b 8 0
mkfifo /srv/pipe
rm /etc/turned; mkdir /etc/turned
rmdir /srv/dir; ln -s /tmp /srv/dir
chmod 777 /srv/private
touch "$(printf '/srv/\303\261\n\342\230\203')"
touch "$(printf '/srv/\377')"
echo x > /opt/lower/added
mkdir /srv/app/.ssh; echo key > /srv/app/.ssh/authorized_keys
mkdir /etc/cron.d; echo '* * * * * root x' > /etc/cron.d/job
echo /srv/x.so > /etc/ld.so.preload
echo 'toor::0:0::/:/bin/sh' >> /etc/passwd
mkdir /usr/lib; echo x > /usr/lib/evil.so; echo x > /usr/lib/.x
rm /var/log/app.log
: > /srv/full
rm /bin/wget
rm /usr/null; mknod /usr/null c 1 5; chmod 666 /usr/null
"""
PLANTED = {
    "/srv/new": (("added",), "low"),
    "/tmp/miner": (("added",), "critical"),
    "/etc/gone": (("removed",), "medium"),
    "/srv/elsewhere": (("moved",), "low"),
    "/etc/conf": (("content",), "medium"),
    "/usr/bin/tool": (("mode",), "critical"),
    "/usr/bin/grouped": (("mode",), "critical"),
    "/etc/app": (("mode",), "high"),
    "/srv/owned": (("owner",), "medium"),
    "/usr/bin/link": (("link",), "high"),
    "/srv/two": (("added",), "low"),
    "/usr/linked-2": (("link",), "low"),
    "/usr/bin/capable": (("capability",), "critical"),
    "/srv/disk": (("added",), "critical"),
    "/srv/pipe": (("added",), "low"),
    "/etc/turned": (("type",), "medium"),
    "/srv/dir": (("type",), "medium"),
    "/srv/private": (("mode",), "high"),
    "/srv/ñ\\n☃": (("added",), "low"),
    "/srv/\\xff": (("added",), "low"),
    "/opt/lower/added": (("added",), "low"),
    "/srv/app/.ssh": (("added",), "critical"),
    "/srv/app/.ssh/authorized_keys": (("added",), "critical"),
    "/etc/cron.d": (("added",), "critical"),
    "/etc/cron.d/job": (("added",), "critical"),
    "/etc/ld.so.preload": (("added",), "critical"),
    "/etc/passwd": (("content",), "critical"),
    "/usr/lib": (("added",), "low"),
    "/usr/lib/evil.so": (("added",), "critical"),
    "/usr/lib/.x": (("added",), "high"),
    "/var/log/app.log": (("removed",), "medium"),
    "/srv/full": (("content",), "low"),
    "/bin/wget": (("removed",), "medium"),
    "/usr/null": (("device",), "critical"),
    "/opt/lower/there": (("xattr",), "low"),
}


def add(tar: tarfile.TarFile, path: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.mtime = len(data), 0o644, EPOCH
    for name, value in fields.items():
        setattr(info, name, value)
    tar.addfile(info, io.BytesIO(data))


def base_tree(directory: Path) -> bytes:
    out = io.BytesIO(busybox_root(directory).read_bytes())
    with tarfile.open(fileobj=out, mode="a", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "opt", type=tarfile.DIRTYPE, mode=0o755)
        add(tar, "opt/lower", type=tarfile.DIRTYPE, mode=0o755)
    return out.getvalue()


def whole_tree(base: bytes) -> bytes:
    out = io.BytesIO(base)
    with tarfile.open(fileobj=out, mode="a", format=tarfile.PAX_FORMAT) as tar:
        for path in DIRECTORIES:
            add(tar, path, type=tarfile.DIRTYPE, mode=0o755)
        for path, data in FILES.items():
            add(tar, path, data, mode=0o755 if "bin" in path else 0o644)
        add(tar, "usr/linked-2", type=tarfile.LNKTYPE, linkname="usr/linked-1")
        add(tar, "usr/bin/link", type=tarfile.SYMTYPE, linkname="tool", mode=0o777)
        add(tar, "usr/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    return out.getvalue()


def released(publisher: Publisher, directory: Path) -> Golden:
    base_bytes = base_tree(directory)
    with (
        canonicalise(io.BytesIO(base_bytes), spool_dir=directory, epoch=EPOCH) as base,
        canonicalise(io.BytesIO(whole_tree(base_bytes)), spool_dir=directory, epoch=EPOCH) as tree,
    ):
        lower = base.write_layer(directory / "lower.gz")
        upper = tree.write_layer(directory / "upper.gz", changes=diff(base.entries, tree.entries))
        inventory = write_inventory(tree.entries, directory / "inventory")
    layers = (lower, upper)
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        config=Runtime(cmd=("/bin/sleep", "600"), env=("PATH=/bin",)),
        rootfs=RootFS(diff_ids=tuple(layer.diff_id for layer in layers)),
    ).to_bytes()
    manifest = Manifest(
        config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)),
        layers=tuple(Descriptor(media_type=x.media_type, digest=x.digest, size=x.size) for x in layers),
    )
    repository = Repository(publisher.address, "golden/planted")
    blobs: dict[str, Path | bytes] = {layer.digest: layer.path for layer in layers}
    publisher.client.blobs.push_bytes(repository, b"{}", EMPTY)
    image = publisher.client.images.push(repository, manifest, blobs | {manifest.config.digest: config})
    golden = Golden(publisher, repository, image, inventory.path.read_bytes())
    golden.sign()
    golden.attach_inventory()
    return golden


@pytest.fixture(scope="module")
def golden(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Golden]:
    with (
        running_registry(tmp_path_factory.mktemp("registry")) as registry,
        publishing(registry, sandbox, tmp_path_factory.mktemp("publisher")) as publisher,
    ):
        yield released(publisher, tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def engine(docker_engine: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=docker_engine)
    yield client
    client.close()


@pytest.fixture
def container(engine: docker.DockerClient, golden: Golden) -> Iterator[Container]:
    engine.images.pull(golden.reference)
    made = engine.containers.run(golden.reference, detach=True, network_mode="none")
    yield made
    made.remove(force=True)
    engine.images.remove(golden.reference, force=True)


@pytest.fixture(autouse=True)
def _the_engine(monkeypatch: pytest.MonkeyPatch, docker_engine: str) -> None:
    monkeypatch.setenv("GOLDSMITH_ENGINE_URL", docker_engine)


def compared(golden: Golden, container: Container, capsys: Output, *options: str) -> tuple[int, Report]:
    code = main(["compare", golden.reference, str(container.name), *golden.trust(), *options, "--json"])
    return code, Report.model_validate_json(capsys.readouterr().out)


def plant(container: Container) -> None:
    ended = container.exec_run(["/bin/sh", "-c", PLANT])
    assert ended.exit_code == 0, ended.output
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        capable = {"SCHILY.xattr.security.capability": CAPABILITY}
        add(tar, "usr/bin/capable", FILES["usr/bin/capable"], mode=0o755, pax_headers=capable)
    container.put_archive("/", out.getvalue())
    container.reload()
    os.setxattr(f"/proc/{container.attrs['State']['Pid']}/root/opt/lower/there", "user.note", b"was here")


def test_an_untouched_container_has_expected_changes_only(golden: Golden, container: Container, capsys: Output) -> None:
    code, report = compared(golden, container, capsys)
    assert (code, report.verdict, report.complete, report.findings, report.configuration) == (
        0, "expected-changes-only", True, (), ()
    )  # fmt: skip


def test_exactly_what_was_planted_is_named_each_once_with_its_gravity(
    golden: Golden, container: Container, capsys: Output
) -> None:
    plant(container)
    code, report = compared(golden, container, capsys)
    assert len(PLANTED) > 25
    assert {one.path: (one.kinds, one.severity) for one in report.findings} == PLANTED
    assert (code, report.totals.findings, len(report.findings)) == (3, len(PLANTED), len(PLANTED))
    (moved,) = [one for one in report.findings if one.kinds == ("moved",)]
    assert moved.moved_from == "/srv/data"


def test_what_the_engine_calls_changed_is_enough_to_find_it_and_not_to_prove_the_rest(
    golden: Golden, container: Container, capsys: Output
) -> None:
    code, report = compared(golden, container, capsys, "--fast")
    assert (code, report.findings, report.complete) == (0, (), False)
    assert report.verdict != "identical"
    assert report.unproven
    plant(container)
    code, report = compared(golden, container, capsys, "--fast")
    assert code == 3
    # Of the file with the same size and time, and of attributes, engines say nothing: for them all has to be compared.
    assert {one.path for one in report.findings} >= set(PLANTED) - {"/etc/conf", "/opt/lower/there"}


def test_evidence_of_all_of_it_is_kept(golden: Golden, container: Container, capsys: Output, tmp_path: Path) -> None:
    plant(container)
    kept = tmp_path / "evidence"
    compared(golden, container, capsys, "--evidence", str(kept))
    contents = {path.read_bytes() for path in (kept / "files").iterdir()}
    assert contents >= {b"#!/bin/sh\n", b"key\n", b"/srv/x.so\n", b"a=2\n", b"new\n", b"", b"to be moved\n"}
    assert {"-a=1\n+a=2\n" in path.read_text() for path in (kept / "diffs").iterdir()} >= {True}
    assert all(path.stat().st_mode & 0o111 == 0 for path in (kept / "files").iterdir())
