"""The rules that docs/security/engine.md gives for steps with a network close what they name and leave the rest open.

On an engine with networks and rules of its own, and beside it a host with the addresses in question.
"""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from builder.engine.container import Container
from builder.engine.docker import Engine
from tests.integration.busybox import LIMITS
from tests.integration.own_engine import OwnEngine, own_engine

GUIDE = Path(__file__).resolve().parents[2] / "docs/security/engine.md"
METADATA = ["169.254.169.254", "169.254.170.2"]
INSIDE = ["10.20.30.40", "172.20.30.40", "192.168.200.40"]
OUTSIDE = ["203.0.113.40"]
SERVE = """
import http.server
class Metadata(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"credentials")
    def log_message(self, *_): pass
print("up", flush=True)
http.server.ThreadingHTTPServer(("", 80), Metadata).serve_forever()
"""


@pytest.fixture(scope="module")
def apart() -> Iterator[OwnEngine]:
    with own_engine("--iptables=true", "--ip-masq=true", apart=True) as engine, a_host_beside(engine):
        yield engine


@pytest.fixture(scope="module")
def engine(apart: OwnEngine) -> Iterator[Engine]:
    with closing(Engine(apart.url, LIMITS)) as found:
        yield found


@pytest.fixture(scope="module")
def image(engine: Engine, root: Path) -> str:
    return engine.import_root(root, f"test-{secrets.token_hex(6)}")


@contextmanager
def a_host_beside(engine: OwnEngine) -> Iterator[None]:
    """It answers at all of these addresses, and the engine's host has a route to them."""
    server = subprocess.Popen(["unshare", "--net", sys.executable, "-c", SERVE], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        at(engine.pid, f"ip link add outer type veth peer name inner netns {server.pid}")
        at(engine.pid, "ip address add 198.51.100.1/24 dev outer", "ip link set outer up", "ip link set lo up")
        at(server.pid, "ip address add 198.51.100.2/24 dev inner", "ip link set inner up", "ip link set lo up")
        for address in (*METADATA, *INSIDE, *OUTSIDE):
            at(server.pid, f"ip address add {address}/32 dev lo")
            at(engine.pid, f"ip route add {address} via 198.51.100.2")
        yield
    finally:
        server.kill()
        server.communicate()


def at(process: int, *commands: str) -> None:
    """Run commands where a process has its network."""
    for command in commands:
        argv = ["nsenter", "--net", "--target", str(process), *shlex.split(command)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def reached(container: Container, addresses: list[str]) -> list[str]:
    script = "; ".join(f"wget -T 2 -q -O - http://{one}/ >/dev/null 2>&1 && echo {one}" for one in addresses)
    ran = container.run(["sh", "-c", f"{script}; true"], check=lambda: None, deadline=time.monotonic() + 60)
    return ran.stdout.split()


def test_the_rules_close_metadata_and_networks_inside_and_nothing_else(
    apart: OwnEngine, engine: Engine, image: str
) -> None:
    rules = re.findall(r"^    (iptables -I DOCKER-USER .*)$", GUIDE.read_text(), re.M)
    assert len(rules) == 2
    everything = [*METADATA, *INSIDE, *OUTSIDE]
    with engine.build_container(image, f"test{secrets.token_hex(11)}", {}) as container:
        with container.networked():
            assert reached(container, everything) == everything, "without them all can be reached"
            at(apart.pid, rules[0])
            assert reached(container, everything) == [*INSIDE, *OUTSIDE]
            at(apart.pid, rules[1])
            assert reached(container, everything) == OUTSIDE
        assert reached(container, everything) == []


def test_a_step_has_no_address_of_version_6_to_ask_from(engine: Engine, image: str) -> None:
    with engine.build_container(image, f"test{secrets.token_hex(11)}", {}) as container, container.networked():
        look = ["sh", "-c", "ip -6 address show scope global; ip -6 route show default"]
        assert container.run(look, check=lambda: None, deadline=time.monotonic() + 20).stdout == ""
