"""The one pass from a tar to layer and inventory, beside its parts alone: MB/s and peak memory.

The pass is what a build does with an exported container: canonicalise, then write layer and inventory side by side. Its
peers

  SHA-256       alone, over the stream (the pass takes it three times: of contents, layer and compressed layer)
  tarfile       Python's, alone: iterate and read
  ISA-L         the compressor alone, at level 2, in one thread
  layer writer  ours alone, with a thread for each CPU: compressor and both digests

read the same synthetic image of 1 GB from a file, in turns, each in a process of its own; the median of three counts.
Two more images tell what memory depends on: one of 1 GB in twice the files, and one of 4 GB in as many. The images are
the same in each run. Needs 10 GB below $TMPDIR.

Goals for two CPUs: 150 MB/s; less than 200 MB of memory for 1 GB, and as much for 4 GB.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from isal import isal_zlib

from builder.image.canonical import canonicalise
from builder.image.digests import CHUNK, chunks_of
from builder.image.inventory import write_inventory
from builder.image.layer import write_layer
from builder.image.ownership import Ownership

_FILES = 36_000
_PER_PACKAGE = 90
_CORPUS = 32 * 1024 * 1024
_RUNS = 3


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as work:
        image = Path(work) / "image.tar"
        _write_image(image, content=10**9, files=_FILES)
        runs = _medians(image, *_MEASURED)
        ours = runs[_OURS]
        print("| | MB/s | of the pass's time | CPU seconds | peak memory |\n| --- | --- | --- | --- | --- |")
        for name, run in runs.items():
            ratio = run["seconds"] / ours["seconds"]
            print(f"| {name} | {run['speed']:.0f} | {ratio:.2f} | {run['cpu']:.1f} | {run['peak'] / 1e6:.0f} MB |")
        print("\nthe pass: " + ", ".join(f"{step} {spent:.2f} s" for step, spent in ours["steps"].items()))

        _write_image(image, content=10**9, files=2 * _FILES)
        more = _medians(image, _OURS)[_OURS]
        _write_image(image, content=4 * 10**9, files=_FILES)
        larger = _medians(image, _OURS)[_OURS]
    print("\n| the pass over | paths | MB/s | peak memory |\n| --- | --- | --- | --- |")
    for name, run in (("1 GB", ours), ("1 GB in twice the files", more), ("4 GB in as many", larger)):
        print(f"| {name} | {run['paths']:,} | {run['speed']:.0f} | {run['peak'] / 1e6:.0f} MB |")
    print(
        f"\n{(more['peak'] - ours['peak']) / (more['paths'] - ours['paths']) / 1e3:.2f} kB of memory for each path more"
    )
    return 0


def _medians(image: Path, *names: str) -> dict[str, dict[str, Any]]:
    """Of each, the run that took the middle of the times. In turns, so that what else runs weighs on all alike."""
    runs = [{name: _in_a_process(name, image) for name in names} for _ in range(_RUNS)]
    return {name: sorted((run[name] for run in runs), key=lambda run: run["seconds"])[_RUNS // 2] for name in names}


def _in_a_process(name: str, image: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", __name__, name, image], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# What is measured


def _the_pass(stream: IO[bytes], work: Path) -> dict[str, Any]:
    clock = [time.monotonic()]
    with canonicalise(stream, spool_dir=work, epoch=0) as tree:
        clock.append(time.monotonic())
        with ThreadPoolExecutor(1) as beside:
            listed = beside.submit(write_inventory, tree.entries, work / "inventory", owner=Ownership(tree).owner)
            tree.write_layer(work / "layer")
            listed.result()
        clock.append(time.monotonic())
        names = ("canonicalise", "layer and inventory")
        steps = {name: end - start for name, start, end in zip(names, clock, clock[1:], strict=False)}
        return {"paths": len(tree.entries), "steps": steps}


def _sha256(stream: IO[bytes], _: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    for chunk in chunks_of(stream):
        digest.update(chunk)
    return {}


def _tarfile(stream: IO[bytes], _: Path) -> dict[str, Any]:
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            while content and content.read(1024 * 1024):
                pass
    return {}


def _isal(stream: IO[bytes], work: Path) -> dict[str, Any]:
    compressor = isal_zlib.compressobj(2)
    with (work / "compressed").open("wb") as out:
        for chunk in chunks_of(stream):
            out.write(compressor.compress(chunk))
        out.write(compressor.flush())
    return {}


def _layer(stream: IO[bytes], work: Path) -> dict[str, Any]:
    write_layer(chunks_of(stream), work / "layer")
    return {}


_OURS = "the pass"
_MEASURED: dict[str, Callable[[IO[bytes], Path], dict[str, Any]]] = {
    _OURS: _the_pass,
    "SHA-256": _sha256,
    "tarfile": _tarfile,
    "ISA-L": _isal,
    "layer writer": _layer,
}


def measure(name: str, image: Path) -> dict[str, Any]:
    """Measure in this very process: seconds, CPU seconds, MB/s, and the most memory it ever had, in bytes."""
    with tempfile.TemporaryDirectory(dir=image.parent) as work, image.open("rb", buffering=CHUNK) as stream:
        started, used = time.monotonic(), time.process_time()
        found = _MEASURED[name](stream, Path(work))
        found |= {"seconds": time.monotonic() - started, "cpu": time.process_time() - used}
    # Not getrusage's, which a process has from the one that started it.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return {**found, "speed": image.stat().st_size / 1e6 / found["seconds"], "peak": peak}


# The image


def _write_image(image: Path, *, content: int, files: int) -> None:
    """A tar like that of an installed system: a few large files, many small ones, links, and dpkg's lists of them all.

    The same bytes every time. `content` is what the files have together, in bytes.
    """
    choose = random.Random(7)  # noqa: S311
    corpus = _corpus()
    drawn = [min(choose.lognormvariate(8, 2), 5e6) for _ in range(files)]
    sizes = [int(size * content / sum(drawn)) for size in drawn]
    with image.open("wb") as out, tarfile.open(fileobj=out, mode="w|") as tar:
        for start in range(0, files, _PER_PACKAGE):
            top = f"usr/share/package-{start // _PER_PACKAGE:04}"
            own = enumerate(sizes[start : start + _PER_PACKAGE])
            wanted = {f"{top}/part-{at // 10}/file-{at}.dat": size for at, size in own}
            _add(tar, f"var/lib/dpkg/info/{Path(top).name}.list", "".join(f"/{name}\n" for name in wanted).encode())
            link = tarfile.TarInfo(f"{top}/latest")
            link.type, link.linkname = tarfile.SYMTYPE, "part-0"
            tar.addfile(link)
            for name, size in wanted.items():
                at = choose.randrange(len(corpus) - size)
                _add(tar, name, corpus[at : at + size])
        out.flush()
        # Work is measured, not the disk: writing is done before the first read begins.
        os.fsync(out.fileno())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), 1_700_000_000
    tar.addfile(info, io.BytesIO(content))


def _corpus() -> bytes:
    """Half text, two fifths of something like machine code, one tenth noise: ISA-L makes a bit less than half of it."""
    choose = random.Random(11)  # noqa: S311

    def falling(count: int) -> list[float]:
        return list(itertools.accumulate(1 / (rank + 5) for rank in range(count)))

    def drawn(count: int, longest: int, letters: bytes) -> list[bytes]:
        return [bytes(choose.choices(letters, k=choose.randint(2, longest))) for _ in range(count)]

    words, codes = drawn(2500, 9, b"eeeettaaooiinnsshrdlucmfwyp_"), drawn(1200, 7, bytes(range(256)))
    of_words, of_codes, of_phrases = falling(2500), falling(1200), falling(800)
    blocks = []
    for number in range(_CORPUS // 65536):
        if number % 10 < 5:
            phrases = [b" ".join(choose.choices(words, cum_weights=of_words, k=number % 9 + 1)) for _ in of_phrases]
            block = b"\n".join(choose.choices(phrases, cum_weights=of_phrases, k=10_000))
        elif number % 10 < 9:
            block = b"".join(choose.choices(codes, cum_weights=of_codes, k=25_000))
        else:
            block = choose.randbytes(65536)
        blocks.append(block[:65536])
    return b"".join(blocks)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
