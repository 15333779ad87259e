"""Load on the API: requests at a fixed rate whatever the answers do, as many as go through wrk, and followers."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field

_REPORT = """
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %f %f %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), summary.errors.status + summary.errors.connect + summary.errors.read +
    summary.errors.write, summary.errors.timeout))
end
"""


@dataclass
class Answers:
    """`latencies` in seconds, each from the moment at which the request was due: waiting for a turn counts."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def percentile(self, part: float) -> float:
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(len(self.latencies) * part))]


def at_a_rate(port: int, request: bytes, *, rate: int, seconds: int, connections: int = 32) -> Answers:
    """The same request, `rate` times a second, over connections that are kept."""
    return asyncio.run(_at_a_rate(port, request, rate, seconds, connections))


async def _at_a_rate(port: int, request: bytes, rate: int, seconds: int, connections: int) -> Answers:
    found, turn = Answers(), iter(range(rate * seconds))
    begun = time.monotonic() + 0.2

    async def sender() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in turn:
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(request)
            found.statuses[await _answer(reader)] += 1
            found.latencies.append(time.monotonic() - due)
        writer.close()

    await asyncio.gather(*(sender() for _ in range(connections)))
    return found


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length:
        await reader.readexactly(int(length[1]))
    return int(head.split(b" ", 2)[1])


@dataclass(frozen=True)
class Flood:
    """What wrk says: requests a second, and latencies in seconds, of which p99 is measured while it pushes. `late`
    are those that took longer than its patience of 2 s."""

    rate: float
    p50: float
    p99: float
    errors: int
    late: int


def flood(url: str, headers: dict[str, str], *, body: str = "", connections: int = 32, seconds: int = 10) -> Flood:
    """As many requests as go through, by one thread of wrk."""
    script = "".join(f'wrk.headers["{name}"] = {value!r}\n' for name, value in headers.items())
    if body:
        script += f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = {body!r}\n'
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script + _REPORT)
        file.flush()
        argv = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "-s", file.name, url]
        told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+) (\d+)", told)
    assert found, told
    requests, microseconds, p50, p99, errors, late = map(float, found.groups())
    return Flood(requests / microseconds * 1e6, p50 / 1e6, p99 / 1e6, int(errors), int(late))


class Followers:
    """Live logs, each over a connection of its own. A line's text is the time at which it was written."""

    def __init__(self, port: int, key: str, builds: list[str], number: int) -> None:
        self._port, self._key = port, key
        self._builds = [builds[n % len(builds)] for n in range(number)]
        self.lines = [0] * number
        self.delays: list[float] = []
        self.ended = 0
        self.open = 0

    def run(self, patience: float) -> None:
        """Until each has been told of its end, or `patience` seconds are over."""
        asyncio.run(self._run(patience))

    async def _run(self, patience: float) -> None:
        following = [asyncio.create_task(self._follow(n, build)) for n, build in enumerate(self._builds)]
        _, pending = await asyncio.wait(following, timeout=patience)
        for task in pending:
            task.cancel()

    async def _follow(self, number: int, build: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        writer.write(
            f"GET /v1/builds/{build}/logs HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._key}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        self.open += 1
        while line := await reader.readline():
            if written := re.search(rb'"text": ?"at ([\d.]+)"', line):
                self.delays.append(time.time() - float(written[1]))
                self.lines[number] += 1
            elif line.startswith(b"event: end"):
                self.ended += 1
                break
        writer.close()
