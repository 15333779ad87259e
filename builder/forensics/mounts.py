"""What is mounted into a container: from where, and over what. None of it is part of what was compared."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.forensics.configuration_rules import CONFIGURATION_RULES
from builder.forensics.findings import ConfigurationFinding

_SOCKETS = ("docker.sock", "containerd.sock", "crio.sock", "podman.sock", "dockershim.sock", "buildkitd.sock")
# With any of these, or what lies below, a container changes or reads out the host.
_HOST = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr",
    "/var/lib/containerd", "/var/lib/docker", "/var/lib/kubelet", "/var/run", "/var/spool/cron",
)  # fmt: skip
# With these whole, too.
_HOST_WHOLE = ("/", "/home", "/opt", "/var", "/var/lib", "/var/log", "/var/spool")
_HARMLESS = ("/etc/localtime", "/etc/timezone")
_PROGRAMS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/usr")
# What decides who may log in, what starts by itself, what is loaded and whom programs trust.
_DECIDING = (
    "/etc/apt", "/etc/ca-certificates", "/etc/cron.d", "/etc/cron.daily", "/etc/cron.hourly", "/etc/crontab",
    "/etc/group", "/etc/init.d", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/nsswitch.conf",
    "/etc/pam.d", "/etc/passwd", "/etc/profile", "/etc/profile.d", "/etc/security", "/etc/shadow", "/etc/ssh",
    "/etc/ssl", "/etc/sudoers", "/etc/sudoers.d", "/etc/systemd", "/var/lib/dpkg", "/var/spool/cron",
)  # fmt: skip
# Mounted over whole, these hide some of it too.
_DECIDING_WHOLE = ("/etc", "/root", "/var", "/var/lib", "/var/spool")


def judge_mounts(
    inspected: Mapping[str, Any], *, volumes: Sequence[str], writable: Sequence[str]
) -> Iterator[ConfigurationFinding]:
    """Findings about the mounts of a container. `volumes` are the image's own, `writable` the recipe's places."""
    for mount in inspected.get("Mounts") or []:
        if isinstance(mount, dict):
            kind, place = str(mount.get("Type") or "bind"), _plain(mount.get("Destination"))
            yield _judged(kind, _plain(mount.get("Source")), place, bool(mount.get("RW", True)), volumes, writable)
    host = inspected.get("HostConfig")
    tmpfs = host.get("Tmpfs") if isinstance(host, dict) else None
    for place in sorted(tmpfs) if isinstance(tmpfs, dict) else []:
        yield _judged("tmpfs", "", _plain(place), True, volumes, writable)


def mounted(inspected: Mapping[str, Any]) -> tuple[str, ...]:
    """The places of all mounts, in order."""
    host = inspected.get("HostConfig")
    tmpfs = host.get("Tmpfs") if isinstance(host, dict) else None
    mounts = [one.get("Destination") for one in inspected.get("Mounts") or [] if isinstance(one, dict)]
    return tuple(sorted({_plain(one) for one in (*mounts, *(tmpfs if isinstance(tmpfs, dict) else ()))}))


def _judged(
    kind: str, source: str, place: str, written: bool, volumes: Sequence[str], writable: Sequence[str]
) -> ConfigurationFinding:
    expected = None
    if kind == "bind" and posixpath.basename(source) in _SOCKETS:
        rule = "mount.engine"
    elif kind == "bind" and (source in _HOST_WHOLE or _below(source, _HOST)) and (written or source not in _HARMLESS):
        rule = "mount.host"
    elif place in ("/", "/opt") or _below(place, _PROGRAMS):
        rule = "mount.hides"
    elif place in {_plain(one) for one in volumes}:
        rule, expected = "mount.known", "the image declares this volume"
    elif _below(place, [_plain(one) for one in writable]):
        rule, expected = "mount.known", "the recipe says that containers write here"
    elif place in _DECIDING_WHOLE or _below(place, _DECIDING) or "/.ssh" in place:
        rule = "mount.decides"
    else:
        rule = "mount.bind" if kind == "bind" else "mount.volume"
    severity, reason = CONFIGURATION_RULES[f"configuration.{rule}"]
    told = f"{kind} {source}".rstrip() + (" (read-only)" if not written else "")
    return ConfigurationFinding(f"Mounts {place}", None, told, severity, f"configuration.{rule}", reason, expected)


def _below(path: str, directories: Sequence[str]) -> bool:
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)


def _plain(path: object) -> str:
    """Without `.`, `..` and doubled slashes, which would let it look like another."""
    text = path if isinstance(path, str) else ""
    return posixpath.normpath(text).replace("//", "/") if text else ""
