"""What stands out in a file system: one pass over an inventory's records. It goes by names, types and modes alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from builder.image.entry import Entry, EntryType, shown
from builder.image.inventory import Record
from builder.policy.facts import Files, Found, Paths

_LISTED = 200
_SETID = 0o6000
_STICKY = 0o1000
_OTHERS_WRITE = 0o002

_BIN = rb"(?:(?:usr/(?:local/)?)?s?bin|opt/(?:.+/)?s?bin)/"
_SHELLS = re.compile(_BIN + rb"(?:ba|da|a|z|k|mk|pdk|lk|oksh|yas|c|tc|fi|el|r)?sh(?:-[0-9.]+)?|" + _BIN + rb"busybox")
_MANAGERS = re.compile(
    _BIN + rb"(?:apt|apt-get|aptitude|dpkg|apk|dnf5?|microdnf|tdnf|yum|rpm|zypper|pacman|opkg|emerge|xbps-install|"
    rb"snap|flatpak|brew|conda|mamba|nix-env|pip[0-9.]*|pipx|uv|poetry|npm|npx|yarn|pnpm|corepack|gem|bundle|cargo|"
    rb"composer|easy_install[0-9.-]*)"
)
_SSH_SERVERS = re.compile(_BIN + rb"(?:sshd|dropbear(?:multi)?|tinysshd|in\.telnetd|telnetd)|usr/lib/openssh/sshd-.*")
_HOST_KEYS = re.compile(rb"etc/(?:ssh/ssh_host_.+_key|dropbear/dropbear_.+_host_key)")
_KEYS = re.compile(
    rb"(?:.*/)?(?:\.ssh/(?:id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|identity|authorized_keys2?)|\.gnupg/(?:private-keys-v1\.d/"
    rb".+|secring\.gpg)|\.aws/credentials|\.azure/accessTokens\.json|\.docker/config\.json|\.kube/config|\.netrc|"
    rb"\.pgpass|\.my\.cnf|\.git-credentials|\.npmrc|\.pypirc|\.vault-token|[^/]+\.(?:p12|pfx|jks|keystore|ppk|kdbx))|"
    rb"etc/ssl/private/.+|etc/krb5\.keytab"
)
_HISTORIES = re.compile(
    rb"(?:.*/)?\.(?:[a-z0-9]*_history|history|histfile|lesshst|viminfo|wget-hsts|node_repl_history|rediscli_history)"
)


def files_of(records: Iterable[Record]) -> Files:
    """All that rules ask about paths. Raises what the records' reader raises."""
    kinds = {
        "setid": _Kind(), "world_writable": _Kind(), "shells": _Kind(), "package_managers": _Kind(),
        "ssh_servers": _Kind(), "host_keys": _Kind(), "private_keys": _Kind(), "histories": _Kind(), "devices": _Kind(),
    }  # fmt: skip
    size = 0
    for record in records:
        entry = record.entry
        if entry.type is EntryType.FILE:
            size += entry.size
        for name in _standing_out(entry):
            kinds[name].add(record)
    return Files(unpacked_bytes=size, **{name: kind.paths() for name, kind in kinds.items()})


def _standing_out(entry: Entry) -> Iterable[str]:
    kind, path, mode = entry.type, entry.path, entry.mode
    if kind is EntryType.DIRECTORY:
        if mode & _OTHERS_WRITE and not mode & _STICKY:
            yield "world_writable"
        return
    if kind in (EntryType.CHARACTER, EntryType.BLOCK):
        yield "devices"
    if kind is not EntryType.SYMLINK:
        if mode & _SETID:
            yield "setid"
        if mode & _OTHERS_WRITE:
            yield "world_writable"
    for name, pattern in _BY_NAME:
        if pattern.fullmatch(path):
            yield name


_BY_NAME = (
    ("shells", _SHELLS),
    ("package_managers", _MANAGERS),
    ("ssh_servers", _SSH_SERVERS),
    ("host_keys", _HOST_KEYS),
    ("private_keys", _KEYS),
    ("histories", _HISTORIES),
)


class _Kind:
    def __init__(self) -> None:
        self._found: list[Found] = []
        self._total = 0

    def add(self, record: Record) -> None:
        self._total += 1
        if len(self._found) < _LISTED:
            entry = record.entry
            self._found.append(
                Found(
                    path=shown(entry.path),
                    mode=f"{entry.mode:04o}",
                    owner=f"{entry.uid}:{entry.gid}",
                    package=record.package.name if record.package else None,
                )
            )

    def paths(self) -> Paths:
        return Paths(found=tuple(self._found), total=self._total)
