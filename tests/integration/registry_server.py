"""A real registry (Debian's `docker-registry`) on a free loopback port, ended by its own process handle."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
{extra}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_registry(directory: Path, extra: str = "", status: int = 200) -> Iterator[str]:
    """Give HOST:PORT of a registry that keeps its data in `directory`. `extra` is added to its configuration."""
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "config.yml"
    config.write_text(_CONFIG.format(storage=directory / "storage", port=port, extra=extra))
    log = (directory / "log").open("wb")
    server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        for _ in range(100):
            assert server.poll() is None, (directory / "log").read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False).status_code == status:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        else:
            raise AssertionError((directory / "log").read_text())
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)
        log.close()
