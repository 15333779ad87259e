"""The recipe's own tests, in a container of the finished image."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from pydantic import BaseModel, ConfigDict

from builder.engine.container import Check, Container
from builder.engine.docker import Engine
from builder.errors import Fault, ProgramTimedOut, Rejected
from builder.process import run
from builder.recipes.model import CommandTest, FileTest, HttpTest, Output, PortTest, Test

_IDLE = ["/bin/sh", "-c", "while :; do sleep 3600; done"]
_MAX_BODY = 256 * 1024
_MATCH_SECONDS = 5.0
_ANSWER_SECONDS = 10.0


class TestFailed(Rejected):
    __test__ = False
    slug = "test-failed"
    title = "A test of the recipe failed"


class TestResult(BaseModel):
    """One test that ran: what it asked, and what was found when it failed. `seconds` is its duration."""

    __test__ = False
    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    found: str = ""
    seconds: float


def run_tests(
    engine: Engine,
    image: str,
    build_id: str,
    tests: Sequence[Test],
    *,
    check: Check,
    deadline: float,
    on_line: Callable[[str], None],
) -> list[TestResult]:
    """Run every test against the image, started as its configuration says when a test needs it running.

    Raises TestFailed with all that failed, after all have run.
    """
    if not tests:
        return []
    served = any(isinstance(test, PortTest | HttpTest) for test in tests)
    results: list[TestResult] = []
    faults: list[Fault] = []
    with engine.trial_container(image, build_id, None if served else _IDLE) as container:
        container.start()
        for index, test in enumerate(tests):
            started = time.monotonic()
            found = _failure(container, test, check, deadline)
            result = TestResult(
                name=describe(test), passed=not found, found=found, seconds=round(time.monotonic() - started, 3)
            )
            results.append(result)
            on_line(f"{'passed' if result.passed else 'FAILED'}: {result.name}" + (f": {found}" if found else ""))
            if found:
                faults.append(Fault(field=f"spec.tests[{index}]", message=f"{result.name}: {found}"))
        if faults and served:
            for line in container.output().splitlines():
                on_line(f"container: {line}")
    if faults:
        raise TestFailed(
            "; ".join(str(fault) for fault in faults), errors=faults, hint="nothing was released; see the log"
        )
    return results


def describe(test: Test) -> str:
    match test:
        case CommandTest():
            return f"command {' '.join(test.command)[:120]}"
        case FileTest():
            return f"file {test.file}"
        case PortTest():
            return f"port {test.port}"
        case HttpTest():
            return f"http :{test.http.port}{test.http.path}"


def _failure(container: Container, test: Test, check: Check, deadline: float) -> str:
    """Empty when the test passes, else what was found instead."""
    if isinstance(test, CommandTest) and container.exit_code() is not None:
        return "the container has ended; a command needs it running"
    match test:
        case CommandTest():
            return _command(container, test, check, deadline)
        case FileTest():
            return _file(container, test)
        case PortTest():
            return _until(test.within_seconds, container, check, deadline, lambda host: _port(host, test.port))
        case HttpTest():
            return _until(test.http.within_seconds, container, check, deadline, lambda host: _http(host, test))


def _command(container: Container, test: CommandTest, check: Check, deadline: float) -> str:
    ran = container.run(test.command, check=check, deadline=deadline)
    if ran.exit_code != test.exit_code:
        said = "\n".join((ran.stderr or ran.stdout).splitlines()[-4:])
        return f"exit code {ran.exit_code} instead of {test.exit_code}: {said or 'it said nothing'}"
    return _output("stdout", test.stdout, ran.stdout) or _output("stderr", test.stderr, ran.stderr)


def _output(name: str, expected: Output, text: str) -> str:
    if expected.contains is not None and expected.contains not in text:
        return f"{name} does not contain {expected.contains!r}; it is {text[:400]!r}"
    if expected.matches is not None and not _matches(expected.matches, text):
        return f"{name} does not match {expected.matches!r}; it is {text[:400]!r}"
    return ""


def _matches(pattern: str, text: str) -> bool:
    """Whether a recipe's regular expression is found. In a process of its own: some expressions take for ever."""
    script = "import re, sys; sys.exit(0 if re.search(sys.argv[1], sys.stdin.read()) else 3)"
    try:
        argv = [sys.executable, "-I", "-X", "utf8", "-c", script, pattern]
        return run(argv, timeout=_MATCH_SECONDS, stdin=text.encode(), accept=(0, 3)).exit_code == 0
    except ProgramTimedOut as error:
        raise TestFailed(
            f"the expression {pattern!r} was not decided within {_MATCH_SECONDS:g} seconds", hint="write a simpler one"
        ) from error


def _file(container: Container, test: FileTest) -> str:
    found = container.header(test.file)
    if found is None or not test.exists:
        if (found is not None) == test.exists:
            return ""
        return "is not there" if test.exists else "is there"
    header, content = found
    if test.mode is not None and header.mode & 0o7777 != int(test.mode, 8):
        return f"has mode {header.mode & 0o7777:04o} instead of {test.mode}"
    if test.owner is not None:
        actual = f"{header.uid}:{header.gid}" if ":" in test.owner else str(header.uid)
        if actual != test.owner:
            return f"is owned by {actual} instead of {test.owner}"
    if test.contains is not None and test.contains.encode() not in content:
        return f"does not contain {test.contains!r}"
    return ""


def _until(seconds: int, container: Container, check: Check, deadline: float, probe: Callable[[str], str]) -> str:
    """Ask again until the probe is content, the container has ended, or the time is over."""
    end = min(time.monotonic() + seconds, deadline)
    while True:
        check()
        container.disk.check()
        exit_code = container.exit_code()
        if exit_code is not None:
            said = "\n".join(container.output(6).splitlines())
            return f"the container ended with exit code {exit_code}: {said or 'it said nothing'}"
        host = container.address()
        found = probe(host) if host else "the container has no address"
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)


def _port(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), timeout=3):
            return ""
    except OSError as error:
        return f"nothing listens: {error.strerror or error}"


def _http(host: str, test: HttpTest) -> str:
    request = test.http
    connection = http.client.HTTPConnection(host, request.port, timeout=5)
    # Each read has a limit of its own, and a server that says one byte at a time never meets it.
    patience = threading.Timer(_ANSWER_SECONDS, _hang_up, [connection])
    patience.start()
    try:
        connection.request("GET", request.path)
        answer = connection.getresponse()
        body = answer.read(_MAX_BODY)
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        patience.cancel()
        connection.close()
    if answer.status != request.status:
        return f"status {answer.status} instead of {request.status}"
    if request.contains is not None and request.contains.encode() not in body:
        return f"the answer does not contain {request.contains!r}"
    return ""


def _hang_up(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)
