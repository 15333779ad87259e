"""One container: commands run in it, files go in and come out, its whole file system streams away."""

from __future__ import annotations

import io
import queue
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from docker import APIClient
from docker.errors import APIError, NotFound

from builder.engine.disk import DiskQuota
from builder.engine.faults import said, translated
from builder.engine.network import own_network
from builder.engine.owners import Owners
from builder.errors import Rejected

_POLL_SECONDS = 0.2
_MAX_LINE = 8192
_KEPT_OUTPUT = 64 * 1024
_LARGEST_FILE = 64 * 1024 * 1024

# Where secrets are, in memory: below /run, which the canonical form empties.
SECRETS = "/run/secrets"

Check = Callable[[], None]


class CommandTimedOut(Rejected):
    slug = "command-timed-out"
    title = "A command of the build did not finish in time"


class CommandImpossible(Rejected):
    slug = "command-impossible"
    title = "A command cannot be started in this image"


class FilesImpossible(Rejected):
    slug = "files-impossible"
    title = "Files cannot be put where the recipe wants them"


class SecretNotHeld(Rejected):
    slug = "secret-not-held"
    title = "A secret cannot be handed to a step in this base"


@dataclass(frozen=True)
class Ran:
    """A command that ended. Of each stream the last 64 KiB are kept."""

    exit_code: int
    stdout: str
    stderr: str


class Container:
    """Starts at the first command. `check` is called a few times a second and may raise, which ends the wait."""

    def __init__(
        self, api: APIClient, container_id: str, build_id: str, disk: DiskQuota, owners: Owners = Owners()
    ) -> None:
        self._api = api
        self.id = container_id
        self._build_id = build_id
        self.disk = disk
        self._owners = owners
        self._started = False

    def start(self) -> None:
        if not self._started:
            with translated():
                self._api.start(self.id)
            self._started = True

    def kill(self) -> None:
        """Stop it at once, so that its file system stands still."""
        if self._started:
            with translated():
                try:
                    self._api.kill(self.id)
                except APIError as error:
                    if error.status_code not in (404, 409):  # it has ended already, or is gone
                        raise
            self._started = False

    @contextmanager
    def networked(self) -> Iterator[None]:
        """Take a container without network out of its isolation for the length of the block; names are resolved in it.

        It is stopped before and after, so that nothing but the block's own commands meets the network: not what earlier
        ones left running, and afterwards neither what they left nor the engine's resolver, which outlives a connection.
        """
        self.kill()
        with own_network(self._api, self._build_id, internal=False) as network:
            self._move("none", network)
            try:
                yield
            finally:
                self.kill()
                self._move(network, "none")

    @contextmanager
    def holding(self, values: Mapping[str, bytes], deadline: float) -> Iterator[None]:
        """Keep values as files below /run/secrets, in memory, for the length of the block.

        The container is stopped before and after, so that nothing but the block's own commands finds them. It must have
        been made for secrets. `deadline` is on the monotonic clock. Raises SecretNotHeld.
        """
        self.kill()
        try:
            self.start()
            for name, value in values.items():
                self._hand_in(f"{SECRETS}/{name}", value, max(1.0, deadline - time.monotonic()))
            yield
        finally:
            self.kill()

    def _hand_in(self, path: str, content: bytes, seconds: float) -> None:
        """Through a command's standard input: archives go to the disk below a mount, and arguments are seen by many."""
        write = ["/bin/sh", "-euc", 'umask 077; head -c "$1" >"$2"', "sh", str(len(content)), path]
        with translated():
            execution = self._api.exec_create(self.id, write, stdin=True)["Id"]
            stream = self._api.exec_start(execution, socket=True)
        try:
            # Of a socket.SocketIO the socket itself; over TLS it is what is answered.
            connection: Any = getattr(stream, "_sock", stream)
            connection.settimeout(seconds)
            connection.sendall(content)
            while connection.recv(4096):
                pass
        except OSError as error:
            raise SecretNotHeld(f"the base cannot take a secret in: {error}") from error
        finally:
            stream.close()
        with translated():
            if self._api.exec_inspect(execution)["ExitCode"] != 0:
                raise SecretNotHeld("the base cannot take a secret in: it needs sh and head", hint="add coreutils")

    def _move(self, origin: str, destination: str) -> None:
        with translated(), suppress(NotFound):  # somebody removed it: there is nothing left to connect
            self._api.disconnect_container_from_network(self.id, origin)
            self._api.connect_container_to_network(self.id, destination)

    def address(self) -> str | None:
        """Its IP address, or None while it has none."""
        networks: dict[str, Any] = self._inspect()["NetworkSettings"]["Networks"]
        return next((network["IPAddress"] for network in networks.values() if network["IPAddress"]), None)

    def exit_code(self) -> int | None:
        """How the container's own process ended, or None while it runs."""
        state = self._inspect()["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def output(self, lines: int = 40) -> str:
        """The last lines that the container's own process wrote."""
        with translated():
            return bytes(self._api.logs(self.id, tail=lines)).decode("utf-8", "replace")

    def run(
        self,
        argv: Sequence[str],
        *,
        check: Check,
        deadline: float,
        on_line: Callable[[str], None] | None = None,
        environment: dict[str, str] | None = None,
        user: str = "",
    ) -> Ran:
        """Run a command to its end. `deadline` is on the monotonic clock.

        Raises CommandTimedOut, CommandImpossible, DiskQuotaExceeded, or whatever `check` raises; the container is
        killed then.
        """

        def watch() -> None:
            check()
            self.disk.check()

        self.start()
        with translated():
            execution = self._api.exec_create(self.id, list(argv), environment=environment, user=user)["Id"]
            stream = self._api.exec_start(execution, stream=True, demux=True)
        output = _Output(on_line)
        try:
            for stdout, stderr in _watched(stream, watch, deadline, argv[0]):
                output.take(stdout, stderr)
            self.disk.look()  # what reads files from now on would read all that was written, however much it is
        except BaseException:
            self.kill()
            raise
        output.end()
        with translated():
            exit_code = self._api.exec_inspect(execution)["ExitCode"]
        if exit_code in (126, 127) and "OCI runtime exec failed" in output.text("stderr", "stdout"):
            raise CommandImpossible(f"{argv[0]} cannot be started: {output.text('stderr', 'stdout').strip()}")
        return Ran(int(exit_code), output.text("stdout"), output.text("stderr"))

    def read(self, path: str, limit: int = _LARGEST_FILE) -> bytes | None:
        """A plain file's content, or None if there is no such file."""
        archive = self._archive(path)
        if archive is None:
            return None
        with tarfile.open(fileobj=stream_of(archive), mode="r|") as tar:
            member = tar.next()
            if member is None or not member.isfile() or member.size > limit:
                return None
            content = tar.extractfile(member)
            assert content is not None
            return content.read()

    def exists(self, path: str) -> bool:
        """Whether there is anything at a path."""
        with translated():
            # The SDK knows only the request that packs the content as well, which costs thirty times as much.
            url = f"{self._api.base_url}/v{self._api.api_version}/containers/{self.id}/archive"
            answer = self._api.head(url, params={"path": path}, timeout=self._api.timeout)
        if answer.status_code in (200, 404):
            return bool(answer.ok)
        return self._archive(path) is not None  # an answer to HEAD does not say what is wrong; this one does

    def members(self, directory: str, wanted: Callable[[str], object]) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
        """What a directory has under wanted names, each with its header, and its content when it is a plain file: one
        request for all of them."""
        archive = self._archive(f"{directory}/.")
        if archive is None:
            return
        with tarfile.open(fileobj=stream_of(archive), mode="r|") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if wanted(name):
                    file = tar.extractfile(member) if member.isfile() else None
                    yield name, self._owners.header_inside(member), file.read(_LARGEST_FILE) if file else b""

    def header(self, path: str) -> tuple[tarfile.TarInfo, bytes] | None:
        """A path's tar header, and its content when it is a plain file; None if there is no such path."""
        archive = self._archive(path)
        if archive is None:
            return None
        with tarfile.open(fileobj=stream_of(archive), mode="r|") as tar:
            member = tar.next()
            if member is None:
                return None
            file = tar.extractfile(member) if member.isfile() else None
            return self._owners.header_inside(member), file.read(1024 * 1024) if file else b""

    def put(self, tar: bytes | io.IOBase) -> None:
        """Unpack a tar at the root. Raises FilesImpossible when the image has something else in its way."""
        with translated():
            try:
                self._api.put_archive(self.id, "/", tar)
            except APIError as error:
                _, refused, reason = said(error).rpartition("Error processing tar file")
                if refused:
                    raise FilesImpossible(
                        f"the files cannot be put into the image {reason}",
                        hint="a directory stands where a file should, or a file where a directory should",
                    ) from error
                raise

    def export(self) -> Iterator[bytes]:
        """The whole file system as one tar stream."""
        with translated():
            yield from self._api.export(self.id, chunk_size=1024 * 1024)

    def _archive(self, path: str) -> Iterator[bytes] | None:
        with translated():
            try:
                stream, _ = self._api.get_archive(self.id, path, chunk_size=1024 * 1024)
            except APIError as error:
                if _is_not_there(error):
                    return None
                raise
            chunks: Iterator[bytes] = iter(stream)
            return chunks

    def _inspect(self) -> dict[str, Any]:
        with translated():
            return dict(self._api.inspect_container(self.id))


def _is_not_there(error: APIError) -> bool:
    """Also when the path leads through a file."""
    return isinstance(error, NotFound) or "not a directory" in said(error)


class _Output:
    """Both streams: whole lines go out as they come, the end of each is kept."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._partial = {"stdout": b"", "stderr": b""}
        self._on_line = on_line

    def take(self, stdout: bytes | None, stderr: bytes | None) -> None:
        for name, data in (("stdout", stdout), ("stderr", stderr)):
            if not data:
                continue
            kept = self.stdout if name == "stdout" else self.stderr
            kept += data
            del kept[:-_KEPT_OUTPUT]
            *lines, self._partial[name] = (self._partial[name] + data).split(b"\n")
            for line in lines:
                self._say(line)
            if len(self._partial[name]) > _MAX_LINE:
                self._say(self._partial[name])
                self._partial[name] = b""

    def end(self) -> None:
        for rest in self._partial.values():
            if rest:
                self._say(rest)

    def text(self, *streams: str) -> str:
        return "\n".join(bytes(getattr(self, name)).decode("utf-8", "replace") for name in streams).strip("\n")

    def _say(self, line: bytes) -> None:
        if self._on_line is not None:
            for start in range(0, max(len(line), 1), _MAX_LINE):
                self._on_line(line[start : start + _MAX_LINE].decode("utf-8", "replace"))


def _watched(stream: Any, check: Check, deadline: float, name: str) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Read a blocking stream while looking at the clock and at whoever may want to stop us."""
    items: queue.Queue[Any] = queue.Queue(maxsize=256)
    done = object()
    abandoned = threading.Event()

    def put(item: object) -> None:
        while not abandoned.is_set():
            with suppress(queue.Full):
                items.put(item, timeout=1)
                return

    def read() -> None:
        try:
            for item in stream:
                put(item)
            put(done)
        except Exception as error:  # handed to the waiting thread, which raises it
            put(error)

    threading.Thread(target=read, daemon=True, name="exec-output").start()
    try:
        while True:
            if time.monotonic() > deadline:
                raise CommandTimedOut(f"{name} did not finish in time", hint="GOLDSMITH_BUILD_SECONDS sets the limit")
            check()
            try:
                item = items.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if item is done:
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        abandoned.set()


class _Chunks(io.RawIOBase):
    """An iterator of chunks as a raw file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def stream_of(chunks: Iterator[bytes]) -> io.BufferedReader:
    """Chunks as a buffered binary file."""
    return io.BufferedReader(_Chunks(chunks), buffer_size=1024 * 1024)
