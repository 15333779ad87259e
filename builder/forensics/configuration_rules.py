"""How grave each difference of a runtime configuration is, and why. docs/comparison-rules.md lists them."""

from __future__ import annotations

from typing import Final, NamedTuple

from builder.forensics.findings import Severity


class ConfigurationRule(NamedTuple):
    severity: Severity
    reason: str


_C, _H, _M, _L, _I = Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.INFO
CONFIGURATION_RULES: Final = {
    f"configuration.{name}": ConfigurationRule(severity, reason)
    for name, severity, reason in (
        ("privileged", _C, "The container has every right on the host: whoever is root in it is root on the host."),
        ("mount.engine", _C, "It can speak with the container engine, and so start anything on the host, as root."),
        ("mount.host", _C, "A directory of the host that decides about the host itself lies open in the container."),
        ("capability.host", _C, "This capability is enough to break out of the container or to read all of the host."),
        ("device.raw", _C, "It can read or write a disk or the memory of the host, past every file permission."),
        ("entrypoint", _H, "Another program starts than the one that the image was released with."),
        ("healthcheck", _H, "The engine runs another command in the container than the image says, again and again."),
        ("environment.loading", _H, "This variable makes programs load or run something else, or trust somebody else."),
        ("user.root", _H, "The container runs as root, and its image does not."),
        ("group.root", _H, "Its processes are in a group that owns parts of the system."),
        ("mount.decides", _H, "What is mounted here decides who may log in, what starts, or whom programs trust."),
        ("mount.hides", _H, "What is mounted here takes the place of programs and libraries of the image."),
        ("security.unconfined", _H, "A confinement of the kernel that every container has by default was taken off."),
        ("security.paths", _H, "Parts of /proc and /sys that are kept from every container lie open."),
        ("device.rule", _H, "It may use more devices than are listed for it."),
        ("namespace.pid", _H, "It sees all processes of the host and can signal or trace them."),
        ("namespace.network", _H, "It is in the host's network: it can listen there and reach what only the host may."),
        ("namespace.ipc", _H, "It shares memory with the processes of the host."),
        ("image", _M, "The engine says that the container was made from another image."),
        ("command", _M, "The program is given other arguments than those that the image was released with."),
        ("environment.changed", _M, "A variable that the image sets has another value, or none."),
        ("user", _M, "The container runs as another account than its image says."),
        ("mount.bind", _M, "A directory or file of the host is part of the container; it was not compared."),
        ("port", _M, "A port is published that the image does not speak of: something else may listen there."),
        ("capability", _M, "Its processes have a right beyond those that every container has."),
        ("device", _M, "It has a device of the host."),
        ("namespace.uts", _M, "It can change the name of the host."),
        ("namespace.user", _M, "It is outside the engine's user namespace: its root is the host's root."),
        ("namespace.shared", _M, "It shares a namespace with another container, and can act on what runs there."),
        ("hosts", _M, "Names lead to other addresses than the image's programs expect."),
        ("sysctl", _M, "A kernel setting of the container is not the default one."),
        ("read-only", _M, "The recipe says that its root file system is read-only, and it is not."),
        ("group", _L, "Its processes are in one more group."),
        ("environment", _L, "A variable that the image does not set. Its value is kept back: it may be a secret."),
        ("working-directory", _L, "Programs start in another directory."),
        ("mount.volume", _L, "A volume or temporary file system is mounted that the image does not speak of."),
        ("mount.known", _L, "Mounted where the image or its recipe says that data lies."),
        ("security.profile", _L, "Another profile than the engine's own confines it."),
        ("no-new-privileges", _I, "Set-uid programs in it can change who they are; the recipe says that they cannot."),
    )
}  # fmt: skip
