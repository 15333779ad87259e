"""What the command line calls a subject is one thing, or it is asked again."""

import io
import tarfile
from pathlib import Path

import pytest

from builder.cli.subjects import SubjectUnclear, subject_of, told_subject
from builder.errors import Rejected
from builder.forensics.subjects.archive import contents_of_archive

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("web", "container", "web"),
        ("0123456789ab", "container", "0123456789ab"),
        ("container:web", "container", "web"),
        ("image:localhost:5000/a:b", "image", "localhost:5000/a:b"),
        (f"registry.example/a/b@{DIGEST}", "image", f"registry.example/a/b@{DIGEST}"),
        ("localhost:5000/a:v1", "image", "localhost:5000/a:v1"),
        ("layout:out", "layout", "out"),
        ("tar:-", "tar", "-"),
        ("-", "tar", "-"),
        ("root.tar", "tar", "root.tar"),
        ("a/root.tar.zst", "tar", "a/root.tar.zst"),
        ("root.tgz", "tar", "root.tgz"),
        ("dir:relative", "dir", "relative"),
        ("/", "dir", "/"),
        ("/proc/self/root", "dir", "/proc/self/root"),
        ("./", "dir", "./"),
        ("subject.jsonl", "inventory", "subject.jsonl"),
        ("subject.jsonl.zst", "inventory", "subject.jsonl.zst"),
        ("inventory:x", "inventory", "x"),
        ("dir:a:b", "dir", "a:b"),
    ],
)
def test_a_subject_is_what_its_name_can_only_be(text: str, kind: str, name: str) -> None:
    assert told_subject(text) == (kind, name)


@pytest.mark.parametrize("text", ["", "dir:", "./gone", "no/such", "/etc/passwd", "localhost/a", "unknown:thing/x"])
def test_what_may_be_nothing_or_anything_is_asked_again(text: str) -> None:
    with pytest.raises(SubjectUnclear):
        told_subject(text)


def test_a_directory_with_the_name_of_an_image_is_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "localhost/a:v1").mkdir(parents=True)
    (tmp_path / "web").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SubjectUnclear, match="directory and an image"):
        told_subject("localhost/a:v1")
    assert told_subject("./localhost/a:v1") == ("dir", "./localhost/a:v1")
    assert told_subject("web") == ("container", "web")


@pytest.mark.parametrize("text", ["dir:/", "root.tar", "image:localhost/a:b", "inventory:x"])
def test_only_a_container_has_an_engine_that_says_what_changed(text: str) -> None:
    with (
        pytest.raises(SubjectUnclear, match="no container"),
        subject_of(text, engine_url="unix:///nowhere", fast=True, docker_config=None),
    ):
        pass


@pytest.mark.parametrize("text", ["dir:/gone", "gone.tar", "layout:gone", "layout:gone.tar", "gone.jsonl"])
def test_what_is_not_there_is_told_before_anything_is_read(text: str) -> None:
    with pytest.raises(Rejected), subject_of(text, engine_url="", fast=False, docker_config=None):
        pass


def test_links_that_lead_in_a_circle_end_the_search_for_contents() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, target in (("a", "b"), ("b", "a")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, target
            tar.addfile(link)
    assert list(contents_of_archive(lambda: io.BytesIO(out.getvalue()), [b"a"])) == []
