"""Clocks that jump, disks of others that are full, answers that break off: no build is lost, none is done twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.faults.clocks import Clock
from tests.end_to_end.faults.disks import on_a_disk_of_its_own
from tests.end_to_end.faults.proxy import Mode, Proxy
from tests.end_to_end.faults.test_services import all_released, at_step, submitted
from tests.end_to_end.faults.test_swaps import signatures
from tests.end_to_end.faults.world import Faulty
from tests.unit.databases import Cluster

AN_HOUR = [3600, -3600]


@pytest.mark.parametrize("jump", AN_HOUR)
@pytest.mark.parametrize("process", ["dispatcher", "worker-build", "worker-release"])
def test_a_clock_jumps_by_an_hour(
    faulty: Faulty, process: str, jump: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_clock(faulty, process, tmp_path, monkeypatch) as clock:
        ids = submitted(faulty, f"clock-{process}", 1, run=[{"shell": "sleep 2"}])
        at_step(faulty, ids[0], "run")
        logged = signatures(faulty)
        clock.set(jump)
        ids += submitted(faulty, f"clock-{process}")
        if process == "worker-release":
            # By its own clock no token and no certificate is valid: nothing is signed until that is right again.
            at_step(faulty, ids[0], "sign")
            time.sleep(6)
            assert signatures(faulty) == logged
            clock.set(0)
        all_released(faulty, ids)


def test_the_registrys_disk_is_full_for_a_while(faulty: Faulty) -> None:
    try:
        with on_a_disk_of_its_own(faulty.stack.state / "registry", faulty.stack.process("registry").stop) as disk:
            faulty.stack.start("registry")
            ids = submitted(faulty, "registry-full", 1, run=[{"shell": "sleep 2"}])
            at_step(faulty, ids[0], "run")
            with disk.full():
                ids += submitted(faulty, "registry-full")  # the API takes builds in all the same
                faulty.until(ids[0], lambda build: bool(build["retries"]))
            all_released(faulty, ids)
            assert faulty.stored(ids[0]).retries[0]["type"] == "/problems/registry-unavailable"
    finally:
        faulty.stack.start("registry")


def test_postgresqls_disk_is_full_for_a_while_and_the_api_says_so(faulty: Faulty, durable_cluster: Cluster) -> None:
    try:
        with on_a_disk_of_its_own(durable_cluster.socket / "data", durable_cluster.end) as disk:
            durable_cluster.start()
            ids = submitted(faulty, "database-full", 1, run=[{"shell": "sleep 3"}])
            at_step(faulty, ids[0], "run")
            with disk.full():
                refusal = until_refused(faulty)
                time.sleep(3)
            durable_cluster.start()  # without room for its log it has given up
            assert refusal in ("/problems/database-full", "/problems/database-unavailable")
            all_released(faulty, ids)
    finally:
        durable_cluster.start()


@pytest.mark.parametrize("asked", [b"/signingCert", b"/log/entries"], ids=["certificate", "log"])
def test_an_answer_of_the_signers_breaks_off(faulty: Faulty, asked: bytes, tmp_path: Path) -> None:
    """Of the log's answer too, which has the entry by then."""
    stack = faulty.stack
    proxy = Proxy(stack.ports["sigstore"])
    trust = tmp_path / "trust.json"
    told = (stack.sigstore_state / "client_trust_config.json").read_text()
    config = json.loads(told)
    config["signingConfig"] = json.loads(
        json.dumps(config["signingConfig"]).replace(f":{stack.ports['sigstore']}", f":{proxy.port}")
    )
    trust.write_text(json.dumps(config))
    try:
        with faulty.worker("release", stack.applications["release"], SIGSTORE_TRUST_CONFIG=str(trust)):
            with proxy.behaving(Mode.TORN, of=asked):
                ids = submitted(faulty, "torn")
                at_step(faulty, ids[0], "sign")
                time.sleep(5)
                assert proxy.torn, "the release came by without it"
            all_released(faulty, ids)
    finally:
        proxy.close()


def until_refused(faulty: Faulty) -> str:
    """The problem with which the API refuses what it cannot write down: even of a bad request there is an entry."""
    deadline = time.monotonic() + 30
    while True:
        answer = faulty.api.post("/v1/builds", json={"recipe": {}})
        if answer.status_code in (503, 507):
            assert int(answer.headers["Retry-After"]) > 0
            return str(answer.json()["type"])
        assert answer.status_code == 422, answer.text
        assert time.monotonic() < deadline, "the database goes on without a disk"


@contextmanager
def own_clock(faulty: Faulty, process: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock(directory)
    faulty.stack.process(process).stop()
    with monkeypatch.context() as patched:
        for name, value in clock.environment.items():
            patched.setenv(name, value)
        faulty.stack.start(process)
    try:
        yield clock
    finally:
        faulty.stack.process(process).stop()
        faulty.stack.start(process)
