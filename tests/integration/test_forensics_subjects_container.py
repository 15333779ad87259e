"""One container looked at in three ways: by its export, by what its engine names as changed, and from beside it."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from builder.forensics.compare import compare
from builder.forensics.expected import expected_reason
from builder.forensics.findings import Difference, Finding, Kind, Severity
from builder.forensics.subjects.archive import ArchiveSubject
from builder.forensics.subjects.changed import ChangedSubject
from builder.forensics.subjects.container import ContainerSubject, ContainerUnknown, engine_at, find_container
from builder.forensics.subjects.directory import open_directory
from builder.forensics.subjects.subject import Subject, golden_part
from builder.image.entry import Entry
from builder.image.inventory import Record
from tests.integration.busybox import busybox_root
from tests.integration.own_engine import REMAPPED, own_engine

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000").decode("latin-1")

CHANGE_EVERYTHING = r"""
    set -e
    echo new > /srv/added; mkdir -p /srv/tree/below; echo deep > /srv/tree/below/file; ln -s /etc /srv/tree/link
    echo b=2 >> /etc/conf; chmod 4755 /usr/tool; chown 5:6 /usr/owned; rm /usr/gone
    rm -r /opt/whole; rm -r /opt/again; mkdir /opt/again; echo other > /opt/again/else
    rm -r /opt/turns; echo file > /opt/turns; rm /opt/file; mkdir /opt/file; echo in > /opt/file/in
    ln -sfn /elsewhere /usr/link; mknod /srv/null c 1 3; mkfifo /srv/fifo; mv /usr/moved /srv/moved
    touch "$(printf '/srv/new\nline')" /srv/ü "$(printf '/srv/odd\377name')" "$(printf '/srv/odd\377\376')"
    chmod 700 /opt/shut; chmod 711 /usr
"""


def judged(difference: Difference) -> Finding:
    expected = expected_reason(difference.path, difference.golden, difference.subject)
    return Finding(difference, Severity.LOW, "test", "test", expected=expected)


@pytest.fixture(scope="module")
def engine(docker_engine: str) -> Iterator[docker.DockerClient]:
    with engine_at(docker_engine) as client:
        yield client


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Busybox, and things to change."""
    path = busybox_root(tmp_path_factory.mktemp("busybox"))
    with tarfile.open(path, "a") as tar:
        for name in ("srv", "usr", "opt", "opt/whole", "opt/again", "opt/turns", "opt/shut", "dev", "sys", "data"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name in (
            "etc/conf", "usr/tool", "usr/owned", "usr/gone", "usr/moved", "opt/whole/a", "opt/whole/b/c", "opt/again/a",
            "opt/turns/into/file", "opt/file", "opt/shut/a", "data/under",
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            data = name.encode()
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("usr/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/bin"
        tar.addfile(link)
    return path


@pytest.fixture(scope="module")
def golden(archive: Path) -> tuple[Record, ...]:
    with tempfile.TemporaryDirectory() as directory, ArchiveSubject(archive).entries(Path(directory)) as entries:
        return tuple(Record(entry) for entry in entries)


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient, archive: Path) -> Iterator[str]:
    name = "goldsmith-test-subjects:latest"
    engine.api.import_image_from_file(str(archive), repository="goldsmith-test-subjects", tag="latest")
    yield name
    engine.images.remove(name, force=True)


def started(engine: docker.DockerClient, image: str, script: str, **options: object) -> Container:
    command = ["/bin/sh", "-c", f"{script}\ntouch /tmp/done; sleep 600"]
    container = engine.containers.run(image, command, detach=True, network_mode="none", init=False, **options)
    for _ in range(100):
        if container.exec_run(["/bin/test", "-e", "/tmp/done"]).exit_code == 0:
            return container
        container.reload()
        assert container.status != "exited", container.logs()
    raise AssertionError("the script does not end")


@pytest.fixture(scope="module")
def changed(engine: docker.DockerClient, image: str) -> Iterator[Container]:
    container = started(engine, image, CHANGE_EVERYTHING)
    yield container
    container.remove(force=True)


def found(golden: tuple[Record, ...], subject: Subject) -> dict[bytes, tuple[Kind, ...]]:
    with tempfile.TemporaryDirectory() as directory, subject.entries(Path(directory)) as entries:
        outcome = compare(golden_part(golden, subject), entries, judge=judged)
    return {one.difference.path: one.difference.kinds for one in outcome.findings}


def test_the_fast_way_finds_what_the_whole_export_shows(
    engine: docker.DockerClient, golden: tuple[Record, ...], changed: Container
) -> None:
    container = find_container(engine, changed.id)
    whole = found(golden, ContainerSubject(engine, container))
    assert found(golden, ChangedSubject(engine, container)) == whole
    assert {
        b"srv/added": (Kind.ADDED,),
        b"srv/tree/below/file": (Kind.ADDED,),
        b"etc/conf": (Kind.CONTENT,),
        b"usr/tool": (Kind.MODE,),
        b"usr/owned": (Kind.OWNER,),
        b"usr/gone": (Kind.REMOVED,),
        b"usr/link": (Kind.LINK,),
        b"usr": (Kind.MODE,),
        b"opt/whole": (Kind.REMOVED,),
        b"opt/whole/b/c": (Kind.REMOVED,),
        b"opt/again/a": (Kind.REMOVED,),
        b"opt/again/else": (Kind.ADDED,),
        b"opt/turns": (Kind.TYPE,),
        b"opt/turns/into/file": (Kind.REMOVED,),
        b"opt/file": (Kind.TYPE,),
        b"opt/file/in": (Kind.ADDED,),
        b"opt/shut": (Kind.MODE,),
        b"srv/null": (Kind.ADDED,),
        b"srv/fifo": (Kind.ADDED,),
        b"srv/moved": (Kind.MOVED,),
        b"srv/new\nline": (Kind.ADDED,),
        b"srv/\xc3\xbc": (Kind.ADDED,),
        b"srv/odd\xffname": (Kind.ADDED,),
        b"srv/odd\xff\xfe": (Kind.ADDED,),
    }.items() <= whole.items()


def test_the_fast_way_looks_at_nothing_else_and_says_so(
    engine: docker.DockerClient, golden: tuple[Record, ...], changed: Container, tmp_path: Path
) -> None:
    subject = ChangedSubject(engine, find_container(engine, changed.id))
    with subject.entries(tmp_path) as entries:
        paths = [entry.path for entry in entries]
    assert b"opt/shut" in paths
    assert not {b"opt/shut/a", b"bin/busybox", b"etc/passwd"} & set(paths)
    looked_at = {record.entry.path for record in golden_part(golden, subject)}
    assert b"opt/whole/b/c" in looked_at
    assert not {b"opt/shut/a", b"bin/busybox"} & looked_at
    assert subject.unproven[0].startswith("every path that the engine does not name as changed")


def test_the_fast_way_counts_owners_as_the_container_does_where_the_engine_has_user_namespaces(
    archive: Path, golden: tuple[Record, ...]
) -> None:
    with own_engine(*REMAPPED) as own, engine_at(own.url) as engine:
        engine.api.import_image_from_file(str(archive), repository="goldsmith-test-subjects", tag="latest")
        without_devices = CHANGE_EVERYTHING.replace("mknod /srv/null c 1 3; ", "")
        made = started(engine, "goldsmith-test-subjects:latest", without_devices)
        container = find_container(engine, made.id)
        whole = found(golden, ContainerSubject(engine, container))
        assert found(golden, ChangedSubject(engine, container)) == whole
    assert whole[b"usr/owned"] == (Kind.OWNER,)
    assert whole[b"usr/tool"] == (Kind.MODE,)


@pytest.mark.parametrize("kind", [ContainerSubject, ChangedSubject])
def test_the_contents_of_changed_files_are_there(
    engine: docker.DockerClient, changed: Container, kind: type[ContainerSubject | ChangedSubject], tmp_path: Path
) -> None:
    subject = kind(engine, find_container(engine, changed.id))
    with subject.entries(tmp_path) as entries:
        list(entries)
    wanted = [b"srv/added", b"opt/turns", b"usr/gone", b"opt/again"]
    contents = {path: b"".join(chunks) for path, chunks in subject.contents(wanted)}
    assert contents == {b"srv/added": b"new\n", b"opt/turns": b"file\n"}


def test_the_root_of_its_process_is_the_container_without_what_is_mounted(
    engine: docker.DockerClient, golden: tuple[Record, ...], changed: Container, tmp_path: Path
) -> None:
    changed.reload()
    container = find_container(engine, changed.id)
    with open_directory(f"/proc/{changed.attrs['State']['Pid']}/root") as beside:
        assert found(golden, beside) == found(golden, ContainerSubject(engine, container))
        assert "what is mounted at /proc (proc)" in beside.unproven
        assert not beside.looked_at(b"proc/1/environ")
        with beside.entries(tmp_path) as entries:
            seen = tuple(entries)
    with ContainerSubject(engine, container).entries(tmp_path) as entries:
        exported = tuple(entry for entry in entries if beside.looked_at(entry.path))
    assert seen == exported


def test_an_untouched_container_has_nothing_to_tell_in_any_way(
    engine: docker.DockerClient, golden: tuple[Record, ...], image: str
) -> None:
    made = engine.containers.create(image, ["/bin/true"])
    try:
        container = find_container(engine, made.id)
        assert found(golden, ContainerSubject(engine, container)) == {}
        assert found(golden, ChangedSubject(engine, container)) == {}
    finally:
        made.remove(force=True)


def test_what_is_mounted_is_named_and_what_it_hides_is_not_taken_for_the_containers_own(
    engine: docker.DockerClient, golden: tuple[Record, ...], image: str, tmp_path: Path
) -> None:
    (tmp_path / "evil").write_bytes(b"")
    made = started(
        engine, image, "echo x > /data/own", tmpfs={"/scratch": ""}, volumes={str(tmp_path): {"bind": "/data"}}
    )
    try:
        container = find_container(engine, made.id)
        for subject in (ContainerSubject(engine, container), ChangedSubject(engine, container)):
            differing = found(golden, subject)
            assert not [path for path in differing if path.startswith(b"data/")]
            assert "what is mounted at /data (bind)" in subject.unproven
            assert "what is mounted at /scratch (tmpfs)" in subject.unproven
            assert subject.described.mounts == ("/data (bind)", "/scratch (tmpfs)")
    finally:
        made.remove(force=True)


def test_a_container_is_described_as_its_engine_knows_it(engine: docker.DockerClient, changed: Container) -> None:
    subject = ContainerSubject(engine, find_container(engine, changed.name))
    assert (subject.described.id, subject.described.state) == (changed.id, "running")
    assert subject.configuration["Config"]["Cmd"][0] == "/bin/sh"
    with pytest.raises(ContainerUnknown):
        find_container(engine, "no-such-container")


def test_a_capability_in_the_export_is_there_from_beside_too(
    engine: docker.DockerClient, image: str, tmp_path: Path
) -> None:
    made = started(engine, image, "")
    try:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("ping")
            info.mode, info.pax_headers = 0o755, {"SCHILY.xattr.security.capability": CAPABILITY}
            tar.addfile(info)
        assert made.put_archive("/usr", out.getvalue())
        made.reload()
        container = find_container(engine, made.id)
        seen: dict[str, Entry] = {}
        for name, subject in (
            ("export", ContainerSubject(engine, container)),
            ("changed", ChangedSubject(engine, container)),
        ):
            with subject.entries(tmp_path) as entries:
                seen[name] = next(entry for entry in entries if entry.path == b"usr/ping")
        with open_directory(f"/proc/{made.attrs['State']['Pid']}/root") as beside, beside.entries(tmp_path) as entries:
            seen["beside"] = next(entry for entry in entries if entry.path == b"usr/ping")
        assert seen["export"] == seen["changed"] == seen["beside"]
        assert seen["export"].xattrs[0][0] == b"security.capability"
    finally:
        made.remove(force=True)
