"""A Docker Engine of a test's own, of whatever kind: nobody else's containers are in it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import docker

from scripts.stack.processes import Process
from scripts.stack.services import ROOT

# An account that every Debian has is given numbers where this engine alone sees them: containers' root is the first.
FIRST_OF_NAMESPACE = 231_072
REMAPPED = ("--userns-remap", "nobody:nogroup")
CRUN = ("--add-runtime", "crun=/usr/bin/crun")
# crun knows both versions of control groups and no mixture; what is mounted there, this engine needs not.
_IN_OWN_MOUNTS = """
echo "nobody:$1:65536" >"$2" && mount --bind "$2" /etc/subuid && mount --bind "$2" /etc/subgid
if grep -q ' /sys/fs/cgroup/unified ' /proc/mounts; then umount /sys/fs/cgroup/unified; fi
shift 2 && exec "$@"
"""


class OwnEngine:
    """`options` are more of dockerd's arguments. With any it has mounts of its own, and cannot be restarted; without a
    `bridge` it has its networks for itself. `bridges` are those of its networks when it was cleared."""

    def __init__(self, directory: Path, bridge: str | None, options: Sequence[str] = ()) -> None:
        self._directory = directory
        self._bridge = bridge
        self._options = options
        self.url = f"unix://{directory}/docker.sock"
        self.bridges: set[str] = set()
        self._process = Process("dockerd", directory, directory / "log")

    def start(self) -> None:
        (self._directory / "dockerd.pid").unlink(missing_ok=True)
        argv = [
            "dockerd", "--host", self.url, "--data-root", str(self._directory / "data"), "--exec-root",
            str(self._directory / "run"), "--pidfile", str(self._directory / "dockerd.pid"),
            "--iptables=false", "--ip-masq=false", *self._options,
        ]  # fmt: skip
        if self._bridge:
            argv += ["--bridge", self._bridge]
        if self._options or not self._bridge:
            apart = [] if self._bridge else ["--net"]
            own = ["unshare", "--mount", *apart, "sh", "-euc", _IN_OWN_MOUNTS, "sh"]
            argv = [*own, str(FIRST_OF_NAMESPACE), str(self._directory / "subordinate"), *argv]
        self._process.start(argv, os.environ, ROOT)
        for _ in range(300):
            try:
                docker.DockerClient(base_url=self.url, timeout=5).close()
                return
            except docker.errors.DockerException:
                if not self._process.alive():
                    break
                time.sleep(0.1)
        raise AssertionError(self._process.tail())

    @property
    def pid(self) -> int:
        return self._process.pid()

    def restart(self) -> None:
        os.kill(self._process.pid(), signal.SIGKILL)
        time.sleep(2)
        self.start()

    def clear(self) -> None:
        """Its containers would outlive it, and so would its networks."""
        with closing(docker.DockerClient(base_url=self.url, timeout=30)) as client:
            for container in client.containers.list(all=True, ignore_removed=True):
                with suppress(docker.errors.APIError):
                    container.remove(force=True)
            for network in client.networks.list(filters={"type": "custom"}):
                self.bridges.add(f"br-{network.id[:12]}")
                with suppress(docker.errors.APIError):
                    network.remove()

    def stop(self) -> None:
        self._process.stop()


@contextmanager
def own_engine(*options: str, apart: bool = False) -> Iterator[OwnEngine]:
    """An engine in a directory of its own, below /tmp: the path of a socket is short. `apart`: its networks too."""
    name = uuid4().hex[:8]
    directory = Path("/tmp") / f"goldsmith-{name}"
    with ExitStack() as undoing:
        directory.mkdir(mode=0o755)
        undoing.callback(_forget, directory)
        engine = OwnEngine(directory, None if apart else undoing.enter_context(_bridge(f"gs-{name}")), options)
        undoing.callback(engine.stop)
        engine.start()
        undoing.callback(engine.clear)
        yield engine
    assert _left(directory, engine.bridges) == [], "an engine and its containers leave nothing on the host"


def _forget(directory: Path) -> None:
    # One that was killed leaves its data mounted on itself.
    subprocess.run(["umount", "--recursive", str(directory / "data")], check=False, capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)


def _left(directory: Path, bridges: Set[str]) -> list[str]:
    """Its processes, mounts, files and networks, once they had a moment to end."""
    deadline = time.monotonic() + 10
    inside = f"{directory}/".encode()
    while True:
        found = [str(directory)] if directory.exists() else []
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if f"{directory}/" in line]
        found += bridges & {interface for _, interface in socket.if_nameindex()}
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has ended
                found += [repr(line)] if inside in (line := process.read_bytes()) else []
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


@contextmanager
def _bridge(name: str) -> Iterator[str]:
    """With --bridge=none an engine would remove the default bridge, which others use."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    ip("link", "add", name, "type", "bridge")
    try:
        ip("address", "add", f"198.18.{secrets.randbelow(256)}.1/24", "dev", name)  # of RFC 2544, for tests
        ip("link", "set", name, "up")
        yield name
    finally:
        ip("link", "delete", name)
