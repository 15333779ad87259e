"""What a recipe's step can try against the kernel, the host, the service and other builds: each try is refused.

All tries are made in one container, as builds have it; each test then looks at what came of one. And again on an engine
where the container's root is nobody on the host.
"""

from __future__ import annotations

import io
import secrets
import shlex
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builder.engine.docker import Engine, cache_reference
from tests.integration.busybox import LIMITS
from tests.integration.own_engine import FIRST_OF_NAMESPACE, REMAPPED, own_engine
from tests.security.system_call import program

EPERM = 1

# Numbers of x86-64, and arguments with which a privileged caller would get somewhere.
SYSTEM_CALLS: dict[str, tuple[int, ...]] = {
    "keyctl": (250, 0, 0xFFFFFFFF), "add_key": (248,), "request_key": (249,), "ptrace": (101, 0),
    "bpf": (321, 0), "perf_event_open": (298,), "userfaultfd": (323,), "io_uring_setup": (425, 8),
    "unshare a user namespace": (272, 0x10000000), "unshare a mount namespace": (272, 0x20000), "setns": (308, 0),
    "clone into a user namespace": (56, 0x10000011), "mount": (165,), "umount2": (166,), "pivot_root": (155,),
    "fsopen": (430,), "open_tree": (428,), "move_mount": (429,), "mount_setattr": (442,), "fanotify_init": (300,),
    "kexec_load": (246,), "kexec_file_load": (320,), "init_module": (175,), "finit_module": (313,),
    "delete_module": (176,), "open_by_handle_at": (304,), "name_to_handle_at": (303,), "process_vm_readv": (310,),
    "process_vm_writev": (311,), "pidfd_getfd": (438,), "kcmp": (312,), "swapon": (167,), "swapoff": (168,),
    "reboot": (169, 0xFEE1DEAD, 672274793, 0), "sethostname": (170,), "setdomainname": (171,), "settimeofday": (164,),
    "clock_settime": (227,), "iopl": (172, 3), "ioperm": (173, 0, 1, 1), "quotactl": (179,), "acct": (163,),
    "syslog": (103, 3), "memfd_secret": (447,), "personality that makes all memory executable": (135, 0x400000),
    "mbind": (237,), "set_mempolicy": (238,), "vhangup": (153,), "lookup_dcookie": (212,),
    "a socket of the kernel's cryptography": (41, 38, 5, 0), "a packet socket": (41, 17, 3, 3),
    "a raw socket": (41, 2, 3, 1), "a socket to the hypervisor": (41, 40, 1, 0), "a key socket": (41, 15, 3, 2),
    "a Bluetooth socket": (41, 31, 3, 1), "a CAN socket": (41, 29, 3, 1), "a TIPC socket": (41, 30, 1, 0),
    "an RDS socket": (41, 21, 5, 0), "an XDP socket": (41, 44, 3, 0), "a KCM socket": (41, 41, 2, 0),
    "an SMC socket": (41, 43, 1, 0), "an NFC socket": (41, 39, 3, 1),
}  # fmt: skip

# Each must end with a failure.
FAILING: dict[str, str] = {
    "a disk made as a device": "mknod /tmp/disk b 8 0",
    "the host's memory": "head -c 1 /dev/mem",
    "the kernel's log": "dmesg",
    "the kernel's log as a device": "head -c 1 /dev/kmsg",
    "the kernel's memory": "head -c 1 /proc/kcore | grep -q .",
    "the kernel's keys": "grep -q . /proc/keys",
    "a program that the kernel starts for a core": "echo '|/tmp/x' >/proc/sys/kernel/core_pattern",
    "a program that the kernel starts for a device": "echo /tmp/x >/sys/kernel/uevent_helper",
    "a program that the kernel starts for a module": "echo /tmp/x >/proc/sys/kernel/modprobe",
    "the kernel's own keyboard": "echo c >/proc/sysrq-trigger",
    "the kernel's caches": "echo 3 >/proc/sys/vm/drop_caches",
    "a file system in memory": "mount -t tmpfs none /mnt",
    "the processes' file system": "mount -t proc none /mnt",
    "control groups": "mkdir /tmp/c && mount -t cgroup none /tmp/c",
    "limits of its own":
    "cd /sys/fs/cgroup; if test -e memory.max; then echo max >memory.max; "
    "else echo -1 >memory/memory.limit_in_bytes; fi",
    "the root, mounted anew": "mount -o remount,rw /",
    "what hides the kernel, unmounted": "umount /proc/kcore",
    "a swap file": "dd if=/dev/zero of=/tmp/s bs=4k count=10 && mkswap /tmp/s && swapon /tmp/s",
    "another name": "hostname other",
    "another time": "date -s 2000-01-01; test $(date +%Y) -lt 2020",
    "a module": "insmod /tmp/x.ko",
    "a higher priority": "nice -n -20 true 2>&1 | grep -q . && false || test $(nice -n -20 nice) = -20",
    "protection from the memory limit": "echo -1000 >/proc/self/oom_score_adj",
    "another root by chroot, with mounts": "chroot / mount -t proc none /proc",
    "the engine's socket": "test -e /var/run/docker.sock || test -e /run/docker.sock",
    "the runtime's socket": "test -e /run/containerd/containerd.sock",
    "any socket": "find / -xdev -type s | grep -q .",
    "a link to a network": "test $(ls /sys/class/net | wc -l) -gt 1",
    "a route": "test $(wc -l </proc/net/route) -gt 1",
    "a new link": "ip link add x type dummy",
    "an answer of a name server": "nslookup metadata.google.internal",
    "a settings variable of the service": "tr '\\0' '\\n' </proc/1/environ | grep -qi goldsmith_",
    "a token or password in its environment": "env | grep -qi -e token -e password -e secret",
    "a process of the host": "grep -a -e cel[e]ry -e docke[r]d /proc/[0-9]*/cmdline",
    "a mounted directory of the host": "grep -v -e ^overlay -e ^proc -e ^tmpfs -e ^devpts -e ^sysfs -e ^cgroup"
    " -e ^mqueue -e ^shm -e '/\\(dev\\|proc\\)/[a-z_]* devtmpfs ' /proc/mounts"
    " | grep -v -e /etc/resolv.conf -e /etc/hostname -e /etc/hosts | grep -q .",
    "more processes by its own word": "ulimit -u unlimited && test $(ulimit -u) = unlimited && false",
    "larger files by its own word": "ulimit -f unlimited",
    "rights from a set-user-id program": "grep -q 'NoNewPrivs:.0' /proc/self/status",
    "the other build's file": "find / -xdev -name other-builds-file 2>/dev/null | grep -q .",
    "the other build's shared memory": "test -e /dev/shm/other-builds-memory",
    "the other build's process": "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q 'sle[e]p 4321'",
}  # fmt: skip

METADATA = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "[fd00:ec2::254]", "10.0.0.1"]
DEVICES = {
    "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
    "tty", "urandom", "zero",
}  # fmt: skip


@dataclass
class Listening:
    """A service of the host, on all its addresses; it notes who came."""

    port: int
    visitors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def service() -> Iterator[Listening]:
    """In the place of API, registry, signer and Redis, which listen on fewer addresses."""
    with closing(socket.create_server(("", 0))) as server:
        found = Listening(server.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                found.visitors.append(str(address[0]))
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        socket.create_connection(("127.0.0.1", found.port)).close()  # it can be reached
        yield found


@pytest.fixture(scope="module", params=["the engine", "user namespaces"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with ExitStack() as stack:
        own = request.param == "user namespaces"
        url = stack.enter_context(own_engine(*REMAPPED)).url if own else request.getfixturevalue("docker_engine")
        yield stack.enter_context(closing(Engine(url, LIMITS)))


@pytest.fixture(scope="module")
def image(engine: Engine, root: Path) -> Iterator[str]:
    key = f"test-{secrets.token_hex(6)}"
    yield engine.import_root(root, key)
    engine.remove_unused(cache_reference(key))


@pytest.fixture(scope="module")
def outcome(engine: Engine, image: str, service: Listening) -> dict[str, str]:
    """What came of each try: its exit code."""
    script = ["set +e", "cd /tmp"]

    def attempt(name: str, command: str) -> None:
        script.append(f"( {command} ) >/dev/null 2>&1 </dev/null; echo {shlex.quote(name)}=$?")

    for number, name in enumerate(SYSTEM_CALLS):
        attempt(name, f"/srv/{number}")
    for name, command in FAILING.items():
        attempt(name, command)
    for address in METADATA:
        attempt(address, f"nc -w 1 {address.strip('[]')} 80")
    for address in host_addresses():
        attempt(f"service at {address}", f"nc -w 1 {address} {service.port}")
    script.append("ls -1 /dev | sed 's/^/device /'")
    with (
        engine.build_container(image, f"test{secrets.token_hex(11)}", {}) as other,
        engine.build_container(image, f"test{secrets.token_hex(11)}", {}) as container,
    ):
        deadline = time.monotonic() + 60
        plant = (
            "mkdir -p /srv; echo x >/srv/other-builds-file; echo x >/dev/shm/other-builds-memory; sleep 4321 & exit 0"
        )
        other.run(["sh", "-c", plant], check=lambda: None, deadline=deadline)
        container.put(programs())
        ran = container.run(["sh", "-c", "\n".join(script)], check=lambda: None, deadline=deadline)
    return dict((line.rpartition("=")[::2] if "=" in line else (line, "")) for line in ran.stdout.splitlines())


def programs() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, (call, *arguments) in enumerate(SYSTEM_CALLS.values()):
            content = program(call, *arguments)
            header = tarfile.TarInfo(f"srv/{number}")
            header.size, header.mode = len(content), 0o755
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def host_addresses() -> list[str]:
    """The loopback, the usual addresses of bridges, and whatever this host is called by others."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
            own = [asked.getsockname()[0]]
        except OSError:
            own = []
    return ["127.0.0.1", "172.17.0.1", *own]


@pytest.mark.parametrize("name", SYSTEM_CALLS)
def test_the_kernel_refuses(outcome: dict[str, str], name: str) -> None:
    assert outcome[name] == str(EPERM)


def test_a_call_that_is_allowed_succeeds_so_that_the_others_mean_something(engine: Engine, image: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header = tarfile.TarInfo("srv/socket")
        content = program(41, 1, 1, 0)
        header.size, header.mode = len(content), 0o755
        tar.addfile(header, io.BytesIO(content))
    with engine.build_container(image, f"test{secrets.token_hex(11)}", {}) as container:
        container.put(buffer.getvalue())
        assert container.run(["/srv/socket"], check=lambda: None, deadline=time.monotonic() + 20).exit_code == 0


@pytest.mark.parametrize("name", FAILING)
def test_a_step_does_not_get(outcome: dict[str, str], name: str) -> None:
    assert outcome[name] not in ("0", ""), name


@pytest.mark.parametrize("address", METADATA)
def test_a_step_does_not_reach_the_metadata_of_a_cloud(outcome: dict[str, str], address: str) -> None:
    assert outcome[address] != "0"


@pytest.mark.parametrize("address", host_addresses())
def test_a_step_does_not_reach_a_service_of_the_host(outcome: dict[str, str], service: Listening, address: str) -> None:
    assert outcome[f"service at {address}"] != "0"
    assert len(service.visitors) == 1, "but for ourselves"


def test_it_has_the_devices_that_every_container_has(outcome: dict[str, str]) -> None:
    assert {name.removeprefix("device ") for name in outcome if name.startswith("device ")} <= DEVICES


def test_where_the_engine_has_a_user_namespace_root_is_nobody_on_the_host(engine: Engine, image: str) -> None:
    apart = "user namespaces" in engine.identity()
    with engine.build_container(image, f"test{secrets.token_hex(11)}", {}) as container:
        container.run(["touch", "/srv-owner"], check=lambda: None, deadline=time.monotonic() + 20)
        process = container._inspect()["State"]["Pid"]
        assert Path(f"/proc/{process}").stat().st_uid == (FIRST_OF_NAMESPACE if apart else 0)
        header = container.header("/srv-owner")
        assert header is not None
        assert (header[0].uid, header[0].gid) == (0, 0), "whatever the host calls them"
        assert container._inspect()["HostConfig"]["UsernsMode"] == ""
