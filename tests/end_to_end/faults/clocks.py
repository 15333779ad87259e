"""A clock of a process's own, which jumps when a test says so: not its monotonic one, which no setting moves.

libfaketime does not do: with it Python 3.11 neither sleeps nor waits as it should.
"""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path


class Clock:
    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self._library = directory / "clock.so"
        self._file.write_bytes(struct.pack("qq", 0, 0))
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["tcc", "-shared", "-nostdlib", "-o", str(self._library), str(source)], check=True)

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that is to go by it."""
        return {"LD_PRELOAD": str(self._library), "TEST_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """By so much it is ahead of the machine's from now on, and a process has been told so."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", seconds))
        deadline = time.monotonic() + 20
        while struct.unpack("qq", self._file.read_bytes())[1] != seconds:
            assert time.monotonic() < deadline, "no process goes by this clock"
            time.sleep(0.05)
