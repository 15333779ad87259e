"""A step that asks has a network, names included; no other command of the build has, and nothing of it is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from builder.engine.assembly import Assembly, RunFailed
from builder.engine.container import CommandTimedOut, Container, stream_of
from builder.engine.docker import Engine
from builder.engine.network import BUILD_LABEL
from builder.errors import Cancelled
from builder.recipes.model import RunStep
from tests.integration.busybox import LIMITS

# What a command sees: its links, whether a server answers by name and by address, and who answers for names.
LOOK = """
ls /sys/class/net | tr '\\n' ' '
wget -T 2 -q -O - http://peer:8080/ 2>/dev/null || echo unreachable by name
wget -T 2 -q -O - http://$(cat /tmp/peer 2>/dev/null || echo 192.0.2.1):8080/ 2>/dev/null || echo unreachable
grep -c ': 0B00007F:' /proc/net/udp
"""
ISOLATED = ["lo unreachable by name", "unreachable", "0"]
CONNECTED = ["eth0 lo golden", "golden", "1"]
SERVE = "mkdir -p /tmp/www; echo golden >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"


@pytest.fixture
def container(engine: Engine, image: str, build_id: str) -> Iterator[Container]:
    with engine.build_container(image, build_id, {}) as found:
        yield found


@pytest.fixture
def assembly(container: Container, tmp_path: Path) -> Assembly:
    return Assembly(container, 1_700_000_000, lambda: None, time.monotonic() + 120, lambda _: None, tmp_path)


@contextmanager
def peer(sdk: docker.DockerClient, image: str, build_id: str) -> Iterator[str]:
    """The address of a web server, named `peer`, on the network that the build has now."""
    (network,) = networks(sdk, build_id)
    server = sdk.containers.create(image, entrypoint=["/bin/sh", "-c", SERVE], network_mode="bridge")
    try:
        network.connect(server, aliases=["peer"])
        server.start()
        server.reload()
        yield server.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
    finally:
        server.remove(force=True)


def networks(sdk: docker.DockerClient, build_id: str) -> list[docker.models.networks.Network]:
    return list(sdk.networks.list(filters={"label": f"{BUILD_LABEL}={build_id}"}))


def containers(sdk: docker.DockerClient, build_id: str) -> list[docker.models.containers.Container]:
    return list(sdk.containers.list(all=True, ignore_removed=True, filters={"label": f"{BUILD_LABEL}={build_id}"}))


def shell(container: Container, script: str, seconds: float = 30) -> list[str]:
    ran = container.run(["sh", "-c", script], check=lambda: None, deadline=time.monotonic() + seconds)
    return ran.stdout.splitlines()


def test_there_is_a_network_during_the_block_and_none_before_or_after(
    container: Container, sdk: docker.DockerClient, image: str, build_id: str
) -> None:
    assert shell(container, LOOK) == ISOLATED
    with container.networked(), peer(sdk, image, build_id) as address:
        assert shell(container, f"echo {address} >/tmp/peer; sleep 1; {LOOK}") == CONNECTED
    assert shell(container, LOOK) == ISOLATED
    assert shell(container, "cat /tmp/peer") == [address]


def test_a_network_can_be_had_more_than_once_and_before_anything_ran(
    container: Container, sdk: docker.DockerClient, build_id: str
) -> None:
    for _ in range(2):
        with container.networked():
            assert shell(container, "ls /sys/class/net") == ["eth0", "lo"]
            assert len(networks(sdk, build_id)) == 1
        assert networks(sdk, build_id) == []
    assert shell(container, "ls /sys/class/net") == ["lo"]


def test_it_leads_out_of_the_bridge(container: Container, sdk: docker.DockerClient, build_id: str) -> None:
    with container.networked():
        routes = shell(container, "ip route")
        (network,) = networks(sdk, build_id)
        gateway = network.attrs["IPAM"]["Config"][0]["Gateway"]
        assert f"default via {gateway} dev eth0" in [route.strip() for route in routes]


def test_what_ran_before_does_not_meet_it_and_what_it_left_running_does_not_live_on(container: Container) -> None:
    shell(container, "sleep 1234 & true")
    with container.networked():
        assert not [line for line in shell(container, "ps") if "sleep 1234" in line]
        shell(container, "sleep 4321 & true")
    assert not [line for line in shell(container, "ps") if "sleep 4321" in line]


def test_its_walls_are_the_same(container: Container) -> None:
    look = "grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status"
    before = shell(container, look)
    assert len(before) == 5
    with container.networked():
        assert shell(container, look) == before
        assert shell(container, "ip link set eth0 down || echo refused") == ["refused"]


def test_nothing_that_the_engine_writes_for_it_is_in_the_image(container: Container) -> None:
    with container.networked():
        shell(container, "echo x >>/etc/resolv.conf; echo x >>/etc/hosts; echo x >/etc/hostname; echo x >/etc/own")
        assert shell(container, "cat /etc/resolv.conf")[0] == "nameserver 127.0.0.11"
    container.kill()
    with tarfile.open(fileobj=stream_of(container.export()), mode="r|") as tar:
        sizes = {member.name: member.size for member in tar}
    assert sizes["etc/own"] == 2
    assert {sizes.get(f"etc/{name}", 0) for name in ("resolv.conf", "hosts", "hostname")} == {0}


def test_of_a_recipes_steps_only_those_that_ask_have_it(assembly: Assembly) -> None:
    lines: list[str] = []
    assembly.on_line = lines.append
    note = "ls /sys/class/net | tr '\\n' ' ' >>/tmp/seen; echo >>/tmp/seen"
    assembly.run(
        [
            ["sh", "-c", note],
            RunStep(shell=note, network=True),
            RunStep(shell=note),
            RunStep(command=["sh", "-c", note], network=True),
            ["sh", "-c", note],
        ],
        {},
    )
    seen = assembly.container.read("/tmp/seen") or b""
    assert [line.split() for line in seen.decode().splitlines()] == [["lo"], ["eth0", "lo"], ["lo"], ["eth0", "lo"],
                                                                    ["lo"]]  # fmt: skip
    assert lines == [f"$ sh -c {note}", "$ shell script (with a network)", "$ shell script",
                     f"$ sh -c {note} (with a network)", f"$ sh -c {note}"]  # fmt: skip


def fail(assembly: Assembly) -> None:
    assembly.run([RunStep(command=["false"], network=True)], {})


def take_too_long(assembly: Assembly) -> None:
    assembly.deadline = time.monotonic() + 2
    assembly.run([RunStep(command=["sleep", "100"], network=True)], {})


def be_cancelled(assembly: Assembly) -> None:
    asked = time.monotonic() + 2

    def check() -> None:
        if time.monotonic() > asked:
            raise Cancelled("somebody asked")

    assembly.check = check
    assembly.run([RunStep(command=["sleep", "100"], network=True)], {})


@pytest.mark.parametrize(
    ("work", "error"), [(fail, RunFailed), (take_too_long, CommandTimedOut), (be_cancelled, Cancelled)]
)
def test_a_step_that_does_not_end_well_leaves_no_network(
    assembly: Assembly,
    sdk: docker.DockerClient,
    build_id: str,
    work: Callable[[Assembly], None],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        work(assembly)
    assert networks(sdk, build_id) == []
    assert shell(assembly.container, "ls /sys/class/net") == ["lo"]


def test_a_container_that_somebody_removes_meanwhile_leaves_no_network(
    container: Container, engine: Engine, sdk: docker.DockerClient, build_id: str
) -> None:
    with container.networked():
        shell(container, "true")
        engine.remove_leftovers(build_id)
    assert (networks(sdk, build_id), containers(sdk, build_id)) == ([], [])


def _hold_a_network(url: str, image: str, build_id: str) -> None:
    engine = Engine(url, LIMITS)
    with engine.build_container(image, build_id, {}) as container, container.networked():
        container.run(["sleep", "100"], check=lambda: None, deadline=time.monotonic() + 100)


def test_what_a_killed_worker_leaves_is_found_by_its_label(
    docker_engine: str, engine: Engine, sdk: docker.DockerClient, image: str, build_id: str
) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=_hold_a_network, args=(docker_engine, image, build_id))
    worker.start()
    until = time.monotonic() + 60
    while not any(one.status == "running" for one in containers(sdk, build_id)) and time.monotonic() < until:
        time.sleep(0.1)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(10)
    assert (len(networks(sdk, build_id)), len(containers(sdk, build_id))) == (1, 1)
    assert build_id in engine.builds_with_leftovers()
    engine.remove_leftovers(build_id)
    assert (networks(sdk, build_id), containers(sdk, build_id)) == ([], [])
