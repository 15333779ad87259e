"""What a comparison reads again, for evidence, costs few passes over an archive, however it is made."""

import io
import tarfile

from builder.forensics.subjects.archive import contents_of_archive
from builder.image.digests import Readable


def chain(links: int, *, backwards: bool) -> bytes:
    """An archive in which each hard link leads to another, and the last to a file."""
    members = [("file", None), *((f"l{number}", f"l{number - 1}" if number else "file") for number in range(links))]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, target in reversed(members) if backwards else members:
            info = tarfile.TarInfo(name)
            if target is None:
                info.size = 4
            else:
                info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info, io.BytesIO(b"text"))
    return out.getvalue()


def test_a_chain_of_hard_links_is_followed_at_once() -> None:
    for backwards in (False, True):
        data, passes = chain(300, backwards=backwards), 0

        def opened(data: bytes = data) -> Readable:
            nonlocal passes
            passes += 1
            return io.BytesIO(data)

        found = {path: b"".join(content) for path, content in contents_of_archive(opened, [b"l299"])}
        assert found == {b"l299": b"text"}
        assert passes <= 2
