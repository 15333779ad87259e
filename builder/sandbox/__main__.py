"""`python -m builder.sandbox --state DIR --port N`: run a local Sigstore until it is told to stop."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from builder.errors import GoldsmithError, Rejected
from builder.sandbox.app import create_app
from builder.sandbox.state import State


class SandboxExposed(Rejected):
    slug = "sandbox-exposed"
    title = "The sandbox would be reachable from other machines"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve, and return the exit code: 0 when stopped, 1 when the sandbox cannot start."""
    parser = argparse.ArgumentParser(prog="python -m builder.sandbox", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="made on the first start")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--url", help="where clients reach the sandbox, if not at http://HOST:PORT")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="listen on an address other machines can reach; its log takes entries from anybody with a certificate",
    )
    options = parser.parse_args(arguments)
    try:
        require_loopback(options.host, options.allow_remote)
        with State(options.state, options.url or _default_url(options.host, options.port)) as state:
            # One process only: the log has one writer.
            uvicorn.run(create_app(state), host=options.host, port=options.port, log_level="warning", access_log=False)
    except GoldsmithError as error:
        sys.stderr.write(f"{error.title}: {error}\n")
        return 1
    return 0


def require_loopback(host: str, allow_remote: bool) -> None:
    """Raises SandboxExposed unless `host` is a loopback address, or remote clients are explicitly allowed."""
    if not allow_remote and not _is_loopback(host):
        raise SandboxExposed(
            f"{host} is not a loopback address, and this certificate authority is not for production",
            hint="listen on 127.0.0.1, or add --allow-remote on a network you trust",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _default_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
