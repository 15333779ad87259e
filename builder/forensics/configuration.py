"""The runtime configuration of a container against its image's own, and against what the signed recipe expects.

Only what loosens or replaces is a finding: a container that is held tighter than its image asks for is as good as the
image. What an engine fills in by itself is none either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from builder.forensics.configuration_rules import CONFIGURATION_RULES
from builder.forensics.findings import ConfigurationFinding
from builder.forensics.mounts import judge_mounts

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
_HOST_CAPABILITIES = {
    "ALL", "BPF", "DAC_READ_SEARCH", "MAC_ADMIN", "MAC_OVERRIDE", "PERFMON", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE",
    "SYS_PTRACE", "SYS_RAWIO",
}  # fmt: skip
# Programs run, load or trust what these name before, or instead of, their own.
_LOADING = {
    "BASH_ENV", "CLASSPATH", "CURL_CA_BUNDLE", "DOTNET_STARTUP_HOOKS", "ENV", "GCONV_PATH", "GIT_SSH",
    "GIT_SSH_COMMAND", "IFS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS",
    "NODE_PATH", "OPENSSL_CONF", "PATH", "PERL5LIB", "PERL5OPT", "PROMPT_COMMAND", "PYTHONHOME", "PYTHONINSPECT",
    "PYTHONPATH", "PYTHONSTARTUP", "REQUESTS_CA_BUNDLE", "RUBYLIB", "RUBYOPT", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "_JAVA_OPTIONS",
}  # fmt: skip
_RAW_DEVICES = (
    "/dev/disk", "/dev/dm-", "/dev/hd", "/dev/kmem", "/dev/loop", "/dev/mapper", "/dev/md", "/dev/mem", "/dev/nvme",
    "/dev/port", "/dev/sd", "/dev/vd", "/dev/xvd",
)  # fmt: skip
_ROOT_GROUPS = frozenset({"0", "root", "docker", "disk", "sudo", "wheel", "adm", "kmem", "shadow"})
_NAMESPACES = {
    "PidMode": "configuration.namespace.pid",
    "NetworkMode": "configuration.namespace.network",
    "IpcMode": "configuration.namespace.ipc",
    "UTSMode": "configuration.namespace.uts",
    "UsernsMode": "configuration.namespace.user",
}


class Runtime(BaseModel):
    """The signed recipe's `runtime` section, as far as it is known here; a later version may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    writable: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    read_only: bool = False


@dataclass(frozen=True)
class GoldenConfiguration:
    """What a container should look like. `config` is the image's config document; None if it could not be had.

    `image_ids` are what engines call the image: the digest of its config, and of its manifest.
    """

    runtime: Runtime
    config: Mapping[str, Any] | None = None
    image_ids: tuple[str, ...] = ()

    @property
    def own(self) -> Mapping[str, Any]:
        """How the image says that its containers run."""
        return _mapping((self.config or {}).get("config"))

    @property
    def volumes(self) -> tuple[str, ...]:
        return tuple(sorted(_mapping(self.own.get("Volumes"))))


def judge_configuration(subject: Mapping[str, Any], golden: GoldenConfiguration) -> tuple[ConfigurationFinding, ...]:
    """The findings of a container's inspect document, or of an image's config document, gravest first."""
    found: list[ConfigurationFinding] = []
    own = _mapping(subject.get("Config") or subject.get("config"))
    if golden.config is not None:
        found += _image(subject, golden)
        found += _process(own, golden.own)
        found += _environment(own, golden)
    host = subject.get("HostConfig")
    if isinstance(host, dict):
        found += judge_mounts(subject, volumes=golden.volumes, writable=golden.runtime.writable)
        found += _privileges(host, golden.runtime)
        found += _security(host, golden.runtime)
        found += _namespaces(host)
        found += _devices(host)
        found += _network(subject, host, golden.own)
    return tuple(sorted(found, key=lambda one: (one.expected is not None, -one.severity, one.member)))


def _found(
    rule: str, member: str, golden: str | None, subject: str | None, expected: str | None = None
) -> ConfigurationFinding:
    severity, reason = CONFIGURATION_RULES[rule]
    return ConfigurationFinding(member, golden, subject, severity, rule, reason, expected)


def _image(subject: Mapping[str, Any], golden: GoldenConfiguration) -> Iterator[ConfigurationFinding]:
    made_from = subject.get("Image")
    if isinstance(made_from, str) and golden.image_ids and made_from not in golden.image_ids:
        yield _found("configuration.image", "Image", golden.image_ids[0], made_from)


def _process(own: Mapping[str, Any], golden: Mapping[str, Any]) -> Iterator[ConfigurationFinding]:
    for member, rule in (("Entrypoint", "configuration.entrypoint"), ("Cmd", "configuration.command")):
        before, now = _texts(golden.get(member)), _texts(own.get(member))
        if before != now:
            yield _found(rule, f"Config.{member}", _json(before), _json(now))
    before_check, check = golden.get("Healthcheck"), own.get("Healthcheck")
    if check and check != before_check and _texts(_mapping(check).get("Test")) != ["NONE"]:
        yield _found("configuration.healthcheck", "Config.Healthcheck", _json(before_check), _json(check))
    user, before_user = _text(own.get("User")), _text(golden.get("User"))
    if _is_root(user) and not _is_root(before_user):
        yield _found("configuration.user.root", "Config.User", before_user, user or "root")
    elif user != before_user and not (_is_root(user) and _is_root(before_user)):
        yield _found("configuration.user", "Config.User", before_user or "root", user)
    directory, before_directory = _text(own.get("WorkingDir")) or "/", _text(golden.get("WorkingDir")) or "/"
    if directory.rstrip("/") != before_directory.rstrip("/"):
        yield _found("configuration.working-directory", "Config.WorkingDir", before_directory, directory)


def _environment(own: Mapping[str, Any], golden: GoldenConfiguration) -> Iterator[ConfigurationFinding]:
    before, now = _variables(golden.own.get("Env")), _variables(own.get("Env"))
    if "PATH" not in before and now.get("PATH") == _DEFAULT_PATH:
        now.pop("PATH")  # the engine's
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) == now.get(name):
            continue
        loads = name.upper() in _LOADING or name.startswith(("LD_", "BASH_FUNC_"))
        rule = (
            "configuration.environment.loading"
            if loads and name in now
            else "configuration.environment.changed"
            if name in before
            else "configuration.environment"
        )
        told = name in golden.runtime.environment and not loads
        value = now.get(name)
        yield _found(
            rule,
            f"Config.Env {name}",
            before.get(name),
            value if value is None or loads else _withheld(value),
            "the recipe says that this variable is set when a container starts" if told else None,
        )


def _privileges(host: Mapping[str, Any], runtime: Runtime) -> Iterator[ConfigurationFinding]:
    if host.get("Privileged"):
        yield _found("configuration.privileged", "HostConfig.Privileged", "false", "true")
    wanted = {_capability(one) for one in runtime.capabilities}
    for name in sorted({_capability(one) for one in _texts(host.get("CapAdd"))} - _DEFAULT_CAPABILITIES):
        rule = "configuration.capability.host" if name in _HOST_CAPABILITIES else "configuration.capability"
        told = "the recipe says that containers have this capability" if name in wanted else None
        yield _found(rule, f"HostConfig.CapAdd {name}", None, name, told)
    for group in _texts(host.get("GroupAdd")):
        rule = "configuration.group.root" if group in _ROOT_GROUPS else "configuration.group"
        yield _found(rule, f"HostConfig.GroupAdd {group}", None, group)
    if runtime.read_only and not host.get("ReadonlyRootfs"):
        yield _found("configuration.read-only", "HostConfig.ReadonlyRootfs", "true", "false")


def _security(host: Mapping[str, Any], runtime: Runtime) -> Iterator[ConfigurationFinding]:
    options = [
        option.replace(":", "=", 1) if "=" not in option else option for option in _texts(host.get("SecurityOpt"))
    ]
    shares_host = bool(host.get("Privileged")) or "host" in (host.get("PidMode"), host.get("IpcMode"))
    for option in options:
        name, _, value = option.partition("=")
        member = f"HostConfig.SecurityOpt {name}"
        if (name, value) == ("label", "disable") and shares_host:
            continue  # the engine's own, for such a container
        if (name, value) in {("seccomp", "unconfined"), ("apparmor", "unconfined"), ("label", "disable")}:
            yield _found("configuration.security.unconfined", member, None, value)
        elif name == "systempaths" and value == "unconfined":
            yield _found("configuration.security.paths", member, None, value)
        elif name in ("seccomp", "apparmor"):
            yield _found("configuration.security.profile", member, None, _digest(value) if len(value) > 80 else value)
    restricted = any(name.startswith("no-new-privileges") and not name.endswith("=false") for name in options)
    if runtime.no_new_privileges and not restricted:
        yield _found("configuration.no-new-privileges", "HostConfig.SecurityOpt no-new-privileges", "true", None)
    if "MaskedPaths" in host and not host["MaskedPaths"] and not host.get("Privileged"):
        yield _found("configuration.security.paths", "HostConfig.MaskedPaths", "the engine's own", "none")
    for name, value in sorted(_mapping(host.get("Sysctls")).items()):
        yield _found("configuration.sysctl", f"HostConfig.Sysctls {name}", None, _text(value))


def _namespaces(host: Mapping[str, Any]) -> Iterator[ConfigurationFinding]:
    for member, rule in _NAMESPACES.items():
        mode = _text(host.get(member))
        if mode == "host":
            yield _found(rule, f"HostConfig.{member}", None, mode)
        elif mode.startswith(("container:", "ns:")):
            yield _found("configuration.namespace.shared", f"HostConfig.{member}", None, mode)


def _devices(host: Mapping[str, Any]) -> Iterator[ConfigurationFinding]:
    for device in host.get("Devices") or []:
        path = _text(_mapping(device).get("PathOnHost"))
        rule = "configuration.device.raw" if path.startswith(_RAW_DEVICES) or path == "/dev" else "configuration.device"
        yield _found(rule, f"HostConfig.Devices {path}", None, path)
    for allowed in _texts(host.get("DeviceCgroupRules")):
        yield _found("configuration.device.rule", "HostConfig.DeviceCgroupRules", None, allowed)
    for request in host.get("DeviceRequests") or []:
        yield _found("configuration.device", "HostConfig.DeviceRequests", None, _json(request))


def _network(
    subject: Mapping[str, Any], host: Mapping[str, Any], golden: Mapping[str, Any]
) -> Iterator[ConfigurationFinding]:
    exposed = _mapping(golden.get("ExposedPorts"))
    asked = _mapping(host.get("PortBindings"))
    # With --publish-all, which ports they are is known only of a running container.
    running = _mapping(_mapping(subject.get("NetworkSettings")).get("Ports")) if host.get("PublishAllPorts") else {}
    all_exposed = _mapping(_mapping(subject.get("Config")).get("ExposedPorts")) if host.get("PublishAllPorts") else {}
    for port in sorted({*asked, *all_exposed, *(port for port, bound in running.items() if bound)}):
        places = [_mapping(one) for one in asked.get(port) or running.get(port) or [{}]]
        told = ", ".join(f"{_text(one.get('HostIp')) or '*'}:{_text(one.get('HostPort')) or 'any'}" for one in places)
        known = "the image says that it listens on this port" if port in exposed else None
        yield _found("configuration.port", f"HostConfig.PortBindings {port}", None, told, known)
    for entry in _texts(host.get("ExtraHosts")):
        yield _found("configuration.hosts", "HostConfig.ExtraHosts", None, entry)
    for member in ("Dns", "DnsSearch"):
        for entry in _texts(host.get(member)):
            yield _found("configuration.hosts", f"HostConfig.{member}", None, entry)


def _withheld(value: str) -> str:
    """A value that may be a secret. Not even a digest of it is told: a short one could be guessed by that."""
    return f"a value of {len(value.encode('utf-8', 'surrogateescape'))} bytes, not shown"


def _digest(value: str) -> str:
    """In place of a long value."""
    return f"sha256:{hashlib.sha256(value.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}…"


def _is_root(user: str) -> bool:
    name = user.partition(":")[0]
    return name in ("", "root") or (name.isdecimal() and int(name) == 0)


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _variables(value: object) -> dict[str, str]:
    return {name: text for name, _, text in (entry.partition("=") for entry in _texts(value))}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""


def _json(value: object) -> str | None:
    return json.dumps(value, ensure_ascii=False) if value else None
