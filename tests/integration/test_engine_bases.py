"""Base images in a real engine: the least recently used go, but none that is in use, was just asked for, or is not
ours."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from builder.engine.bases import BaseImages
from builder.engine.docker import BaseVanished, Engine
from builder.locking import exclusive
from tests.integration.busybox import LIMITS
from tests.integration.registry_server import running_registry

HOUR = 3600.0


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    return tmp_path / "roots"


@pytest.fixture
def bases(engine: Engine, stamps: Path) -> BaseImages:
    return BaseImages(engine, stamps)


@pytest.fixture
def new_key(sdk: docker.DockerClient) -> Iterator[Callable[[], str]]:
    """Makes keys that nobody else has; what is still kept under them at the end is removed."""
    made: list[str] = []

    def make() -> str:
        made.append(f"test-{secrets.token_hex(8)}")
        return made[-1]

    yield make
    for key in made:
        remove(sdk, f"goldsmith-cache:{key}")


def remove(sdk: docker.DockerClient, reference: str) -> None:
    try:
        sdk.images.remove(reference, force=True)
    except ImageNotFound:
        return


def age(stamps: Path, reference: str, seconds: float) -> None:
    """Make the last use of an image so many seconds older."""
    stamp = next(path for path in stamps.iterdir() if path.read_text() == reference)
    then = time.time() - seconds
    os.utime(stamp, (then, then))


def test_the_least_recently_used_go_until_the_rest_fits(
    bases: BaseImages, engine: Engine, stamps: Path, root: Path, new_key: Callable[[], str]
) -> None:
    keys = [new_key() for _ in range(3)]
    images = [bases.import_root(root, key) for key in keys]
    for key, hours in zip(keys, (2, 3, 1), strict=True):
        age(stamps, f"goldsmith-cache:{key}", hours * HOUR)
    size = engine.size(f"goldsmith-cache:{keys[0]}")
    assert size is not None
    assert size > 1_000_000
    assert bases.trim(3 * size, keep_seconds=0) == 0
    assert bases.trim(3 * size - 1, keep_seconds=0) == size
    assert [engine.cached(key) for key in keys] == [images[0], None, images[2]]
    assert bases.trim(0, keep_seconds=0) == 2 * size
    assert [engine.cached(key) for key in keys] == [None] * 3
    assert list(stamps.iterdir()) == []


def test_what_was_just_asked_for_stays(bases: BaseImages, stamps: Path, root: Path, new_key: Callable[[], str]) -> None:
    key = new_key()
    image = bases.import_root(root, key)
    assert bases.trim(0, keep_seconds=HOUR) == 0
    age(stamps, f"goldsmith-cache:{key}", 2 * HOUR)
    assert bases.cached(key) == image
    assert bases.trim(0, keep_seconds=HOUR) == 0
    assert bases.cached(key) == image


def test_one_that_was_asked_for_while_it_is_being_made_is_none_yet_and_then_stays(
    bases: BaseImages, root: Path, new_key: Callable[[], str]
) -> None:
    key = new_key()
    assert bases.cached(key) is None
    assert bases.trim(0, keep_seconds=HOUR) == 0
    image = bases.import_root(root, key)
    assert bases.trim(0, keep_seconds=HOUR) == 0
    assert bases.cached(key) == image


@pytest.mark.parametrize("running", [True, False])
def test_one_that_a_container_uses_stays_until_the_container_is_gone(
    bases: BaseImages, engine: Engine, stamps: Path, root: Path, new_key: Callable[[], str], running: bool
) -> None:
    key, other = new_key(), new_key()
    image = bases.import_root(root, key)
    bases.import_root(root, other)
    age(stamps, f"goldsmith-cache:{key}", 2 * HOUR)
    age(stamps, f"goldsmith-cache:{other}", HOUR)
    with engine.build_container(image, f"test{secrets.token_hex(11)}", {}) as container:
        if running:
            container.start()
        assert bases.trim(0, keep_seconds=0) > 0
        assert (engine.cached(key), engine.cached(other)) == (image, None)
    bases.trim(0, keep_seconds=0)
    assert engine.cached(key) is None


def test_one_of_somebody_else_stays(
    bases: BaseImages, engine: Engine, stamps: Path, root: Path, new_key: Callable[[], str], tmp_path: Path
) -> None:
    theirs, ours = new_key(), new_key()
    foreign = BaseImages(engine, tmp_path / "foreign").import_root(root, theirs)
    bases.import_root(root, ours)
    age(stamps, f"goldsmith-cache:{ours}", HOUR)
    assert bases.trim(0, keep_seconds=0) > 0
    assert (engine.cached(theirs), engine.cached(ours)) == (foreign, None)


def test_another_name_of_the_same_image_keeps_it(
    bases: BaseImages, engine: Engine, sdk: docker.DockerClient, stamps: Path, root: Path, new_key: Callable[[], str]
) -> None:
    key, name = new_key(), f"somebody/else:{secrets.token_hex(6)}"
    image = bases.import_root(root, key)
    sdk.images.get(image).tag(*name.split(":"))
    age(stamps, f"goldsmith-cache:{key}", HOUR)
    try:
        bases.trim(0, keep_seconds=0)
        assert engine.cached(key) is None
        assert sdk.images.get(name).id == image
    finally:
        remove(sdk, name)


def test_a_pulled_one_goes_like_others_and_can_be_pulled_again(
    bases: BaseImages, engine: Engine, sdk: docker.DockerClient, stamps: Path, root: Path, new_key: Callable[[], str],
    tmp_path: Path,
) -> None:  # fmt: skip
    key = new_key()
    with running_registry(tmp_path / "registry") as registry:
        name = f"{registry}/base"
        sdk.images.get(engine.import_root(root, key)).tag(name, "latest")
        sdk.images.push(name, tag="latest")
        reference = sdk.images.get(f"{name}:latest").attrs["RepoDigests"][0]
        remove(sdk, f"{name}:latest")
        remove(sdk, f"goldsmith-cache:{key}")
        pulled = bases.pull(reference)
        assert bases.trim(0, keep_seconds=HOUR) == 0
        age(stamps, reference, 2 * HOUR)
        assert bases.trim(0, keep_seconds=HOUR) > 0
        with pytest.raises(ImageNotFound):
            sdk.images.get(pulled)
        assert bases.pull(reference) == pulled
        remove(sdk, reference)


def test_stamps_whose_image_is_gone_and_stamps_cut_short_are_forgotten(
    bases: BaseImages, sdk: docker.DockerClient, stamps: Path, root: Path, new_key: Callable[[], str]
) -> None:
    gone, kept = new_key(), new_key()
    for key in (gone, kept):
        bases.import_root(root, key)
    remove(sdk, f"goldsmith-cache:{gone}")
    (stamps / "cut-short").write_text(f"goldsmith-cache:{kept}"[:-3])
    then = time.time() - HOUR
    for stamp in stamps.iterdir():
        os.utime(stamp, (then, then))
    assert bases.trim(10**12, keep_seconds=0) == 0
    assert [stamp.read_text() for stamp in stamps.iterdir()] == [f"goldsmith-cache:{kept}"]


def test_who_asks_waits_for_who_trims(bases: BaseImages, stamps: Path, new_key: Callable[[], str]) -> None:
    with ThreadPoolExecutor(1) as pool:
        with exclusive(stamps.with_name("roots.lock")):
            asked = pool.submit(bases.cached, new_key())
            time.sleep(0.3)
            assert not asked.done()
        assert asked.result(10) is None


def test_workers_that_make_the_same_root_at_once_make_one_image(
    bases: BaseImages, sdk: docker.DockerClient, root: Path, new_key: Callable[[], str]
) -> None:
    key = new_key()
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: bases.import_root(root, key), range(3)))
    assert len(set(made)) == 1
    assert sdk.images.get(f"goldsmith-cache:{key}").id == made[0]


def test_a_base_that_somebody_removes_at_the_last_moment_is_worth_a_retry(engine: Engine) -> None:
    with (
        pytest.raises(BaseVanished, match="no longer has the base image sha256:0000") as caught,
        engine.build_container("sha256:" + "0" * 64, "test", {}),
    ):
        pytest.fail("there is no such image")
    assert caught.value.retryable


KEEP = 1.0


def _build(answers: multiprocessing.Queue[object], url: str, stamps: Path, root: Path, keys: list[str]) -> None:
    """Have a base as a build does, and make a container of it, again and again."""
    counts: Counter[str] = Counter()
    try:
        engine = Engine(url, LIMITS)
        bases = BaseImages(engine, stamps)
        until = time.time() + 10
        while time.time() < until:
            key = secrets.choice(keys)
            asked = time.time()
            image = bases.cached(key)
            if image is None:
                counts["imported"] += 1
                asked = time.time()
                image = bases.import_root(root, key)
            try:
                with engine.build_container(image, f"test{secrets.token_hex(11)}", {}):
                    counts["built"] += 1
            except BaseVanished:
                counts["broken promises" if time.time() - asked < KEEP else "late"] += 1
        answers.put(counts)
    except BaseException as error:
        answers.put(repr(error))


def test_workers_that_trim_and_workers_that_build_share_an_engine(
    docker_engine: str, bases: BaseImages, stamps: Path, root: Path, new_key: Callable[[], str]
) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[object] = context.Queue()
    keys = [new_key() for _ in range(12)]
    workers = [
        context.Process(target=_build, args=(answers, docker_engine, stamps, root, keys[start:]))
        for start in (0, 4)
    ]  # fmt: skip
    for worker in workers:
        worker.start()
    evicted = 0
    while any(worker.is_alive() for worker in workers) and answers.qsize() < len(workers):
        evicted += bases.trim(0, keep_seconds=KEEP)
        time.sleep(0.05)
    counts: Counter[str] = Counter()
    for worker in workers:
        found = answers.get(timeout=30)
        assert isinstance(found, Counter), found
        counts += found
        worker.join(30)
    assert counts["built"] > 5
    assert evicted > 0
    assert counts["broken promises"] == 0
