"""One Goldsmith for all faults: on PostgreSQL that waits for its disk, with processes that can be killed anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.faults.selection import some
from tests.end_to_end.faults.world import Faulty, running
from tests.unit.databases import Cluster, running_postgresql

_SERVICES = ("test_services.py", "test_surroundings.py")
# Of those; each takes some fifteen seconds.
_SOME = 4


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    faults = [one.nodeid for one in items if one.path.name in _SERVICES]
    left_out = [one for one in items if one.nodeid in {*faults} - {*some(faults, _SOME)}]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [one for one in items if one not in left_out]


@pytest.fixture(scope="session")
def durable_cluster() -> Iterator[Cluster]:
    with running_postgresql(durable=True) as found:
        yield found


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory, docker_engine: str, durable_cluster: Cluster) -> Iterator[Faulty]:
    with running(tmp_path_factory.mktemp("faulty"), durable_cluster.create("faulty")) as found:
        yield found


@pytest.fixture(autouse=True)
def _whole_again(faulty: Faulty) -> Iterator[None]:
    """Each fault finds a service where everything runs."""
    faulty.restart_dead()
    yield
    faulty.disarm()
    faulty.restart_dead()
