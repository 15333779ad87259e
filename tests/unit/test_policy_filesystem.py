"""What stands out in a file system: by name, type and mode, all of it counted, the first of it listed."""

from __future__ import annotations

from typing import Any

import pytest

from builder.image.entry import Entry, EntryType
from builder.image.inventory import Package, Record
from builder.policy.facts import Files
from builder.policy.filesystem import files_of

KINDS = tuple(name for name in Files.model_fields if name != "unpacked_bytes")


def entry(path: str, kind: EntryType = EntryType.FILE, mode: int = 0o644, **more: Any) -> Entry:
    return Entry(path.encode(), kind, mode, 0, 0, **more)


def standing_out(*entries: Entry) -> dict[str, list[str]]:
    found = files_of(map(Record, entries))
    return {kind: [one.path for one in getattr(found, kind).found] for kind in KINDS if getattr(found, kind).total}


NAMED = {
    "shells": [
        "bin/sh", "usr/bin/dash", "usr/bin/bash", "usr/local/bin/zsh", "usr/bin/fish", "usr/bin/ksh", "bin/busybox",
        "usr/bin/bash-5.2", "opt/app/bin/sh", "usr/bin/rsh", "usr/bin/csh",
    ],
    "package_managers": [
        "usr/bin/apt", "usr/bin/apt-get", "usr/bin/dpkg", "sbin/apk", "usr/bin/pip", "usr/bin/pip3.13",
        "usr/local/bin/npm", "usr/bin/gem", "usr/bin/rpm", "usr/bin/dnf5", "opt/venv/bin/pip",
    ],
    "ssh_servers": ["usr/sbin/sshd", "usr/sbin/dropbear", "usr/lib/openssh/sshd-session", "usr/sbin/in.telnetd"],
    "host_keys": ["etc/ssh/ssh_host_ed25519_key", "etc/dropbear/dropbear_rsa_host_key"],
    "private_keys": [
        "root/.ssh/id_rsa", "home/app/.ssh/id_ed25519_sk", "root/.ssh/authorized_keys", "root/.aws/credentials",
        "root/.docker/config.json", "root/.kube/config", "root/.netrc", "root/.pgpass", "root/.git-credentials",
        "root/.npmrc", "srv/app/keys.p12", "srv/store.jks", "etc/ssl/private/server.key", "etc/krb5.keytab",
        "root/.gnupg/private-keys-v1.d/A.key", ".ssh/id_rsa",
    ],
    "histories": [
        "root/.bash_history", "root/.python_history", "root/.psql_history", "home/a/.viminfo", "root/.wget-hsts",
        "root/.lesshst", ".mysql_history",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, paths in NAMED.items() for path in paths])
def test_a_name_stands_out_as_a_file_a_hard_link_and_a_symlink(kind: str, path: str) -> None:
    for of in (EntryType.FILE, EntryType.HARDLINK, EntryType.SYMLINK):
        assert standing_out(entry(path, of, target=b"usr/bin/x")) == {kind: [f"/{path}"]}


@pytest.mark.parametrize(
    "path",
    [
        "usr/share/doc/bash", "usr/bin/publish", "usr/bin/bashful", "usr/share/bash-completion/bash", "usr/bin/ssh",
        "etc/ssh/ssh_host_ed25519_key.pub", "root/.ssh/id_rsa.pub", "root/.ssh/known_hosts", "etc/ssl/certs/a.pem",
        "usr/share/history", "usr/lib/apt/apt-helper", "usr/bin/apt-key.txt", "usr/bin/sshd.md", "etc/apt/sources.list",
        "var/lib/dpkg/status", "usr/bin/script/sh", "usr/bin/pipe",
    ],
)  # fmt: skip
def test_what_is_only_named_like_it_does_not(path: str) -> None:
    assert standing_out(entry(path)) == {}


def test_a_directory_of_such_a_name_is_none() -> None:
    assert standing_out(entry("usr/bin/sh", EntryType.DIRECTORY, 0o755)) == {}


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755, 0o4000])
def test_a_program_with_the_bits_stands_out_under_each_of_its_names(mode: int) -> None:
    names = [entry("usr/bin/su", mode=mode), entry("usr/bin/us", EntryType.HARDLINK, mode, target=b"usr/bin/su")]
    assert standing_out(*names) == {"setid": ["/usr/bin/su", "/usr/bin/us"]}


@pytest.mark.parametrize(
    ("kind", "mode", "out"),
    [
        (EntryType.FILE, 0o646, True), (EntryType.FILE, 0o1666, True), (EntryType.FILE, 0o664, False),
        (EntryType.DIRECTORY, 0o777, True), (EntryType.DIRECTORY, 0o1777, False), (EntryType.DIRECTORY, 0o775, False),
        (EntryType.SYMLINK, 0o777, False), (EntryType.FIFO, 0o622, True),
    ],
)  # fmt: skip
def test_what_everybody_may_write_to_stands_out_but_for_links_and_sticky_directories(
    kind: EntryType, mode: int, out: bool
) -> None:
    assert standing_out(entry("srv/a", kind, mode)) == ({"world_writable": ["/srv/a"]} if out else {})


@pytest.mark.parametrize("kind", [EntryType.CHARACTER, EntryType.BLOCK])
def test_a_device_stands_out(kind: EntryType) -> None:
    assert standing_out(entry("srv/null", kind, 0o600, device=(1, 3))) == {"devices": ["/srv/null"]}


def test_a_directory_that_gives_its_group_is_no_program() -> None:
    assert standing_out(entry("var/mail", EntryType.DIRECTORY, 0o2775)) == {}


def test_what_one_is_twice_is_told_twice() -> None:
    assert standing_out(entry("usr/bin/sh", mode=0o4757)) == {
        "setid": ["/usr/bin/sh"], "world_writable": ["/usr/bin/sh"], "shells": ["/usr/bin/sh"],
    }  # fmt: skip


def test_it_is_told_with_mode_owner_and_package() -> None:
    su = Entry(b"usr/bin/su", EntryType.FILE, 0o4755, 0, 42, size=5)
    (found,) = files_of([Record(su, Package("login", "1:4.13"))]).setid.found
    assert (found.path, found.mode, found.owner, found.package) == ("/usr/bin/su", "4755", "0:42", "login")


def test_thousands_are_counted_though_not_listed() -> None:
    found = files_of(Record(entry(f"srv/{number}", mode=0o666)) for number in range(1000)).world_writable
    assert (found.total, len(found.found), found.unlisted) == (1000, 200, 800)


def test_each_file_counts_once_for_the_size() -> None:
    files = [entry("a", size=7), entry("b", EntryType.HARDLINK, size=7, target=b"a"), entry("c", size=5)]
    assert files_of(map(Record, files)).unpacked_bytes == 12


def test_a_name_that_could_trick_a_terminal_is_escaped() -> None:
    assert standing_out(entry("root/\x1b[31m/.bash_history")) == {"histories": ["/root/\\x1b[31m/.bash_history"]}
