"""The real Docker Engine: commands end or are ended, nothing reaches out, nothing harms the host, nothing is left."""

from __future__ import annotations

import hashlib
import io
import secrets
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from docker.errors import NotFound

from builder.engine.container import (
    CommandImpossible,
    CommandTimedOut,
    Container,
    FilesImpossible,
    Ran,
    stream_of,
)
from builder.engine.docker import BUILD_LABEL, BaseUnavailable, CommandMissing, Engine, Limits
from builder.engine.faults import EngineUnavailable
from builder.engine.trial import TestFailed, TestResult, run_tests
from builder.errors import Cancelled
from builder.recipes.model import CommandTest, FileTest, HttpRequest, HttpTest, Output, PortTest, Test
from tests.integration.busybox import ACCOUNTS

DEBIANS_CAPABILITIES = {0, 1, 3, 4, 5, 6, 7, 8, 18, 31}  # capability.h, for what Debian's packages need


@pytest.fixture
def container(engine: Engine, image: str, build_id: str) -> Iterator[Container]:
    with engine.build_container(image, build_id, {"FROM_RECIPE": "1"}) as found:
        yield found


def left(sdk: docker.DockerClient, build_id: str) -> tuple[int, int]:
    """How many containers and networks a build has."""
    filters = {"label": f"{BUILD_LABEL}={build_id}"}
    return len(sdk.containers.list(all=True, filters=filters)), len(sdk.networks.list(filters=filters))


def execute(
    container: Container,
    *argv: str,
    seconds: float = 20,
    check: Callable[[], None] = lambda: None,
    on_line: Callable[[str], None] | None = None,
    environment: dict[str, str] | None = None,
    user: str = "",
) -> Ran:
    return container.run(
        argv, check=check, deadline=time.monotonic() + seconds, on_line=on_line, environment=environment, user=user
    )


def shell(container: Container, script: str, seconds: float = 20) -> Ran:
    return execute(container, "sh", "-c", script, seconds=seconds)


class TestCommands:
    def test_say_what_they_say_where_they_say_it(self, container: Container) -> None:
        ran = shell(container, "echo out; echo err >&2; exit 7")
        assert (ran.exit_code, ran.stdout, ran.stderr) == (7, "out", "err")

    def test_are_handed_their_arguments_as_they_are(self, container: Container) -> None:
        odd = ["$HOME", "a b", "`id`", "; id", "*", "é"]
        assert execute(container, "printf", "%s\n", *odd).stdout.split("\n") == odd

    def test_see_the_recipes_environment_and_their_own(self, container: Container) -> None:
        ran = execute(container, "sh", "-c", "echo $FROM_RECIPE $OWN; id -u; pwd", environment={"OWN": "2"})
        assert ran.stdout.split() == ["1", "2", "0", "/"]

    def test_are_seen_line_by_line_as_they_come(self, container: Container) -> None:
        seen: list[tuple[str, float]] = []
        started = time.monotonic()
        execute(
            container, "sh", "-c", r"echo one; sleep 1; printf 'tw\377o\nrest'",
            on_line=lambda line: seen.append((line, time.monotonic() - started)),
        )  # fmt: skip
        assert [line for line, _ in seen] == ["one", "tw\ufffdo", "rest"]
        assert seen[1][1] - seen[0][1] > 0.7

    def test_may_say_more_than_anybody_keeps(self, container: Container) -> None:
        longest, total = 0, 0

        def measure(line: str) -> None:
            nonlocal longest, total
            longest, total = max(longest, len(line)), total + len(line)

        ran = execute(container, "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' a; echo; echo end", on_line=measure)
        assert longest == 8192
        assert total == 20_000_000 + len("end")
        assert len(ran.stdout) <= 64 * 1024
        assert ran.stdout.endswith("\nend")

    def test_end_with_their_code_though_they_closed_their_output(self, container: Container) -> None:
        assert shell(container, "exec >&- 2>&-; sleep 1; exit 3").exit_code == 3

    def test_need_not_wait_for_what_they_leave_running(self, container: Container) -> None:
        started = time.monotonic()
        assert shell(container, "sleep 100 & exit 0").exit_code == 0
        assert time.monotonic() - started < 10

    @pytest.mark.parametrize("name", ["no-such-program", "/etc/passwd", "/etc"])
    def test_that_cannot_be_started_are_told(self, container: Container, name: str) -> None:
        with pytest.raises(CommandImpossible, match=f"{name} cannot be started"):
            execute(container, name)

    def test_that_take_too_long_are_ended(self, container: Container) -> None:
        started = time.monotonic()
        with pytest.raises(CommandTimedOut, match="sleep did not finish in time"):
            execute(container, "sleep", "100", seconds=1)
        assert time.monotonic() - started < 5
        assert "sleep 100" not in shell(container, "ps").stdout

    def test_of_a_cancelled_build_are_ended_within_a_second_or_so(self, container: Container) -> None:
        asked = threading.Event()
        threading.Timer(0.5, asked.set).start()

        def check() -> None:
            if asked.is_set():
                raise Cancelled("somebody asked")

        started = time.monotonic()
        with pytest.raises(Cancelled):
            execute(container, "sh", "-c", "while :; do echo x; done", seconds=60, check=check)
        assert time.monotonic() - started < 4

    def test_that_end_with_their_container_do_not_hide_why(
        self, container: Container, sdk: docker.DockerClient
    ) -> None:
        def check() -> None:
            sdk.api.kill(container.id)
            raise Cancelled("somebody asked")

        with pytest.raises(Cancelled):
            execute(container, "sleep", "100", check=check)
        container.kill()

    def test_run_as_another_user_when_asked(self, container: Container) -> None:
        assert execute(container, "id", "-u", user="nobody").stdout == "65534"


class TestWalls:
    def test_there_is_no_network(self, container: Container) -> None:
        links = shell(container, "ls /sys/class/net").stdout.split()
        assert links == ["lo"]
        assert shell(container, "wget -T 2 -q -O - http://192.0.2.1/").exit_code != 0

    def test_there_are_few_capabilities_and_no_way_to_more(self, container: Container) -> None:
        status = dict(line.split(":\t", 1) for line in shell(container, "cat /proc/self/status").stdout.splitlines())
        for kind in ("CapPrm", "CapEff", "CapBnd"):
            held = {bit for bit in range(64) if int(status[kind], 16) >> bit & 1}
            assert held == DEBIANS_CAPABILITIES, kind
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Seccomp"].strip() == "2"

    @pytest.mark.parametrize(
        "script",
        ["mount -t tmpfs x /tmp", "mknod /tmp/d b 8 0", "hostname x", "echo 1 >/proc/sys/vm/drop_caches", "dmesg",
         "insmod x", "chroot / mount -t proc p /proc", "echo c >/proc/sysrq-trigger"],
    )  # fmt: skip
    def test_the_host_cannot_be_touched(self, container: Container, script: str) -> None:
        assert shell(container, script).exit_code != 0

    def test_no_namespace_can_be_made_that_would_give_capabilities_back(self, container: Container) -> None:
        ran = shell(container, "unshare -U true")
        assert ran.exit_code != 0
        assert "Operation not permitted" in ran.stderr

    def test_nothing_waits_for_the_disk(self, container: Container) -> None:
        # The kernel refuses fsync on this device; here it is answered without being asked.
        ran = shell(container, "echo x | dd of=/dev/null conv=fsync && sync")
        assert ran.exit_code == 0, ran.stderr

    def test_no_socket_of_the_engine_is_there(self, container: Container) -> None:
        assert shell(container, "ls /var/run/docker.sock /run/docker.sock").exit_code != 0
        mounts = shell(container, "cat /proc/mounts").stdout
        assert "docker.sock" not in mounts

    def test_memory_has_a_limit_that_ends_the_greedy_command_alone(self, container: Container) -> None:
        ran = shell(container, "x=a; while :; do x=$x$x; done", seconds=60)
        assert ran.exit_code == 137
        assert shell(container, "echo alive").stdout == "alive"

    def test_processes_have_a_limit_that_a_fork_bomb_meets(self, container: Container) -> None:
        bomb = "f() { f | f & }; f; sleep 1; ls -d /proc/[0-9]* | wc -l"
        with suppress(CommandTimedOut):
            shell(container, bomb, seconds=8)
        container.kill()
        started = time.monotonic()
        assert shell(container, "echo alive").stdout == "alive"
        assert time.monotonic() - started < 10


class TestFiles:
    def test_are_read_with_their_content(self, container: Container) -> None:
        assert container.read("/etc/passwd") == ACCOUNTS["etc/passwd"]

    @pytest.mark.parametrize("path", ["/etc/nothing", "/etc", "/bin/sh", "/no/such/directory/file", "/etc/passwd/x"])
    def test_that_are_none_are_nothing(self, container: Container, path: str) -> None:
        assert container.read(path) is None

    def test_that_are_pipes_are_nothing_and_nobody_waits(self, container: Container) -> None:
        shell(container, "mkfifo /tmp/pipe")
        assert container.read("/tmp/pipe") is None

    def test_that_are_too_large_are_nothing(self, container: Container) -> None:
        assert container.read("/etc/passwd", limit=10) is None

    def test_are_known_by_their_header(self, container: Container) -> None:
        shell(container, "echo hello >/tmp/a; chown 7:8 /tmp/a; chmod 4750 /tmp/a")
        found = container.header("/tmp/a")
        assert found is not None
        header, content = found
        assert (header.mode & 0o7777, header.uid, header.gid, content) == (0o4750, 7, 8, b"hello\n")
        link = container.header("/bin/sh")
        assert link is not None
        assert link[0].issym()
        assert container.header("/nothing") is None

    def test_are_there_or_not(self, container: Container) -> None:
        assert container.exists("/bin/sh")
        assert container.exists("/etc")
        assert not container.exists("/nothing")
        assert not container.exists("/etc/passwd/x")

    def test_of_one_directory_come_together_and_nothing_else_with_them(self, container: Container) -> None:
        shell(
            container,
            "mkdir -p /srv/d/a; echo one >/srv/d/a/x; echo two >/srv/d/b; ln -s b /srv/d/c; chown 7:8 /srv/d/b",
        )
        found = container.members("/srv/d", {"b", "c", "x", "nothing"}.__contains__)
        assert {name: (header.uid, header.linkname, content) for name, header, content in found} == {
            "b": (7, "", b"two\n"),
            "c": (0, "b", b""),
        }
        assert list(container.members("/nothing", lambda name: True)) == []

    def test_are_put_with_owner_mode_and_time(self, container: Container) -> None:
        header = tarfile.TarInfo("srv/deep/é")
        header.size, header.mode, header.uid, header.gid, header.mtime = 3, 0o640, 5, 6, 1_700_000_000
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(header, io.BytesIO(b"abc"))
        container.put(buffer.getvalue())
        said = shell(container, "stat -c '%a %u %g %Y %s' /srv/deep/é").stdout
        assert said == "640 5 6 1700000000 3"

    @pytest.mark.parametrize("path", ["etc/passwd/x", "etc"])
    def test_that_something_else_is_in_the_way_of_are_refused(self, container: Container, path: str) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(path))
        shell(container, "true")
        with pytest.raises(FilesImpossible) as caught:
            container.put(buffer.getvalue())
        assert "overlay" not in caught.value.detail

    def test_are_put_and_read_before_anything_runs(self, container: Container) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("etc/early"))
        container.put(buffer.getvalue())
        assert container.read("/etc/early") == b""

    def test_stream_away_as_one_tar(self, container: Container) -> None:
        shell(container, "head -c 5000000 /dev/zero >/tmp/zeros; echo x >/etc/new; rm /etc/group")
        container.kill()
        digests = {}
        with tarfile.open(fileobj=stream_of(container.export()), mode="r|") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                digests[member.name] = hashlib.sha256(file.read()).hexdigest() if file else None
        assert digests["etc/new"] == hashlib.sha256(b"x\n").hexdigest()
        assert digests["tmp/zeros"] == hashlib.sha256(bytes(5_000_000)).hexdigest()
        assert "etc/group" not in digests


class TestLeftovers:
    def test_there_are_none_after_a_build(
        self, engine: Engine, sdk: docker.DockerClient, image: str, build_id: str
    ) -> None:
        with engine.build_container(image, build_id, {}) as container:
            container.start()
            assert left(sdk, build_id) == (1, 0)
        assert left(sdk, build_id) == (0, 0)

    def test_there_are_none_after_a_failure(
        self, engine: Engine, sdk: docker.DockerClient, image: str, build_id: str
    ) -> None:
        def build() -> None:
            with engine.build_container(image, build_id, {}) as container:
                container.start()
                raise ZeroDivisionError

        def test() -> None:
            with engine.trial_container(image, build_id, ["sh"]):
                assert left(sdk, build_id) == (1, 1)
                raise ZeroDivisionError

        for work in (build, test):
            with pytest.raises(ZeroDivisionError):
                work()
        assert left(sdk, build_id) == (0, 0)

    def test_there_is_no_network_left_when_the_container_cannot_be_made(
        self, engine: Engine, sdk: docker.DockerClient, build_id: str
    ) -> None:
        with pytest.raises(Exception, match="No such image"), engine.trial_container("sha256:" + "0" * 64, build_id):
            pytest.fail("there is no such image")
        assert left(sdk, build_id) == (0, 0)

    def test_of_a_killed_worker_are_removed_and_of_nobody_else(
        self, engine: Engine, sdk: docker.DockerClient, image: str, build_id: str
    ) -> None:
        other = f"{build_id}x"
        for label in (build_id, other):
            sdk.containers.create(image, ["sleep", "100"], labels={BUILD_LABEL: label}).start()
            sdk.networks.create(f"goldsmith-{label}", internal=True, labels={BUILD_LABEL: label})
        engine.remove_leftovers(build_id)
        assert (left(sdk, build_id), left(sdk, other)) == ((0, 0), (1, 1))
        engine.remove_leftovers(build_id)
        engine.remove_leftovers(other)
        assert left(sdk, other) == (0, 0)

    def test_somebody_elses_removal_is_no_failure(
        self, engine: Engine, sdk: docker.DockerClient, image: str, build_id: str
    ) -> None:
        with engine.build_container(image, build_id, {}) as container:
            sdk.containers.get(container.id).remove(force=True)
        with pytest.raises(NotFound):
            sdk.containers.get(container.id)


class TestImages:
    def test_what_was_not_imported_is_not_cached(self, engine: Engine) -> None:
        assert engine.cached(f"test-{secrets.token_hex(6)}") is None

    def test_what_is_not_there_cannot_be_pulled_or_forgotten(self, engine: Engine, tmp_path: Path) -> None:
        from tests.integration.registry_server import running_registry

        with running_registry(tmp_path) as registry:
            reference = f"{registry}/nothing@sha256:{'0' * 64}"
            with pytest.raises(BaseUnavailable, match="cannot be pulled"):
                engine.pull(reference)
            engine.forget(reference)

    def test_an_engine_that_is_away_says_how_to_have_one(self, tmp_path: Path) -> None:
        with pytest.raises(EngineUnavailable, match=f"no Docker Engine answers at unix://{tmp_path}") as caught:
            Engine(f"unix://{tmp_path}/docker.sock", Limits(1, 1, 1))
        assert caught.value.hint == "start it, or set GOLDSMITH_ENGINE_URL"
        assert caught.value.retryable

    def test_an_engine_tells_its_name_and_architecture(self, engine: Engine) -> None:
        assert engine.identity().startswith("docker ")
        assert engine.architecture() in {"amd64", "arm64"}


@pytest.fixture(scope="module")
def server(sdk: docker.DockerClient, image: str) -> Iterator[str]:
    """The same image with a web server as its command."""
    container = sdk.containers.create(image, ["true"])
    script = "mkdir -p /tmp/www; echo golden >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"
    made = container.commit(repository="goldsmith-cache", tag=f"test-{secrets.token_hex(6)}",
                            conf={"Cmd": ["/bin/sh", "-c", script]})  # fmt: skip
    container.remove()
    yield str(made.id)
    sdk.images.remove(made.id, force=True)


class TestTrial:
    def test_waits_for_the_disk_as_everywhere(self, engine: Engine, server: str, build_id: str) -> None:
        with engine.trial_container(server, build_id, ["/bin/sh", "-c", "sleep 60"]) as container:
            assert shell(container, "echo x | dd of=/dev/null conv=fsync").exit_code != 0

    def results(self, engine: Engine, image: str, build_id: str, *tests: Test) -> list[TestResult]:
        return run_tests(
            engine, image, build_id, tests, check=lambda: None, deadline=time.monotonic() + 60, on_line=lambda _: None
        )

    def test_commands_and_files_are_tested_without_a_server(self, engine: Engine, image: str, build_id: str) -> None:
        found = self.results(
            engine, image, build_id,
            CommandTest(command=["echo", "golden"], stdout=Output(contains="gold", matches="^g.*n$")),
            CommandTest(command=["sh", "-c", "echo no >&2; exit 3"], exit_code=3, stderr=Output(contains="no")),
            FileTest(file="/etc/passwd", mode="0644", owner="0:0", contains="nobody"),
            FileTest(file="/etc/shadow", exists=False),
        )  # fmt: skip
        assert [result.passed for result in found] == [True] * 4
        assert found[0].name == "command echo golden"

    @pytest.mark.parametrize(
        ("test", "found"),
        [
            (CommandTest(command=["sh", "-c", "echo oops >&2; exit 2"]), "exit code 2 instead of 0: oops"),
            (CommandTest(command=["true"], exit_code=1), "exit code 0 instead of 1: it said nothing"),
            (CommandTest(command=["echo", "a"], stdout=Output(contains="b")), "stdout does not contain 'b'; it is 'a'"),
            (CommandTest(command=["echo", "a"], stdout=Output(matches="^b")), "stdout does not match '^b'; it is 'a'"),
            (FileTest(file="/etc/nothing"), "is not there"),
            (FileTest(file="/etc/passwd", exists=False), "is there"),
            (FileTest(file="/etc/passwd", mode="0600"), "has mode 0644 instead of 0600"),
            (FileTest(file="/etc/passwd", owner="1"), "is owned by 0 instead of 1"),
            (FileTest(file="/etc/passwd", contains="x" * 20), "does not contain"),
        ],
    )
    def test_what_fails_says_what_was_found(
        self, engine: Engine, sdk: docker.DockerClient, image: str, build_id: str, test: Test, found: str
    ) -> None:
        with pytest.raises(TestFailed) as caught:
            self.results(engine, image, build_id, CommandTest(command=["true"]), test)
        assert caught.value.errors[0].field == "spec.tests[1]"
        assert found in caught.value.errors[0].message
        assert left(sdk, build_id) == (0, 0)

    def test_a_started_image_is_asked_over_its_own_network(self, engine: Engine, server: str, build_id: str) -> None:
        found = self.results(
            engine, server, build_id,
            PortTest(port=8080, within_seconds=20),
            HttpTest(http=HttpRequest(port=8080, contains="golden")),
            HttpTest(http=HttpRequest(port=8080, path="/nothing", status=404)),
            CommandTest(command=["sh", "-c", "wget -T 2 -q -O - http://192.0.2.1/ || echo no way out"],
                        stdout=Output(contains="no way out")),
        )  # fmt: skip
        assert [result.passed for result in found] == [True] * 4

    @pytest.mark.parametrize(
        ("test", "found"),
        [
            (PortTest(port=8081, within_seconds=1), "nothing listens: Connection refused"),
            (HttpTest(http=HttpRequest(port=8080, status=201, within_seconds=2)), "status 200 instead of 201"),
            (HttpTest(http=HttpRequest(port=8080, contains="lead", within_seconds=2)), "does not contain 'lead'"),
            (HttpTest(http=HttpRequest(port=8081, within_seconds=1)), "no answer"),
        ],
    )
    def test_a_server_that_does_not_answer_as_asked_is_told(
        self, engine: Engine, server: str, build_id: str, test: Test, found: str
    ) -> None:
        with pytest.raises(TestFailed, match=found):
            self.results(engine, server, build_id, test)

    def test_a_server_that_ends_is_told_with_its_last_words(
        self, engine: Engine, sdk: docker.DockerClient, image: str, build_id: str
    ) -> None:
        container = sdk.containers.create(image, ["true"])
        made = container.commit(conf={"Cmd": ["/bin/sh", "-c", "echo no configuration >&2; exit 7"]})
        container.remove()
        try:
            with pytest.raises(TestFailed, match="exit code 7: no configuration"):
                self.results(engine, str(made.id), build_id, PortTest(port=80, within_seconds=20))
        finally:
            sdk.images.remove(made.id, force=True)

    def test_an_image_with_nothing_to_start_is_told(self, engine: Engine, image: str, build_id: str) -> None:
        with pytest.raises(CommandMissing, match="neither the recipe nor its base") as caught:
            self.results(engine, image, build_id, PortTest(port=80))
        assert caught.value.hint == "give spec.entrypoint or spec.command"

    def test_a_server_that_never_comes_to_an_end_is_left(
        self, engine: Engine, sdk: docker.DockerClient, image: str, build_id: str
    ) -> None:
        container = sdk.containers.create(image, ["true"])
        drip = "while :; do printf x; sleep 1; done"
        made = container.commit(conf={"Cmd": ["nc", "-l", "-p", "80", "-e", "sh", "-c", drip]})
        container.remove()
        started = time.monotonic()
        try:
            with pytest.raises(TestFailed):
                self.results(engine, str(made.id), build_id, HttpTest(http=HttpRequest(port=80, within_seconds=2)))
        finally:
            sdk.images.remove(made.id, force=True)
        assert time.monotonic() - started < 25

    def test_no_tests_start_nothing(self, engine: Engine, build_id: str) -> None:
        assert self.results(engine, "sha256:" + "0" * 64, build_id) == []
