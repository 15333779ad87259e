"""What the build container's profile of system calls must never allow."""

import json
from typing import Any

import pytest

from builder.engine.syscalls import build_profile

PROFILE: dict[str, Any] = json.loads(build_profile())

# Docker's documentation, "Significant syscalls blocked by the default profile", and what came to Linux since.
NEVER = """
    acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module get_kernel_syms get_mempolicy
    init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind mount move_pages nfsservctl
    open_by_handle_at perf_event_open pivot_root process_vm_readv process_vm_writev ptrace query_module quotactl reboot
    request_key set_mempolicy setns settimeofday stime swapon swapoff sysfs _sysctl umount umount2 unshare uselib
    userfaultfd ustat vm86 vm86old mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick fanotify_init
    io_uring_setup io_uring_enter io_uring_register name_to_handle_at pidfd_getfd process_madvise quotactl_fd syslog
    sethostname setdomainname vhangup memfd_secret
"""


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for rule in PROFILE["syscalls"] if name in rule["names"]]


def test_what_is_not_named_is_refused() -> None:
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"


@pytest.mark.parametrize("name", NEVER.split())
def test_calls_that_reach_the_kernel_itself_are_not_named(name: str) -> None:
    assert rules(name) == []


@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_no_clone_makes_a_namespace(flag: int) -> None:
    (rule,) = rules("clone")
    (condition,) = rule["args"]
    assert condition["op"] == "SCMP_CMP_MASKED_EQ"
    assert flag & condition["value"] == flag
    assert condition["valueTwo"] == 0
    assert [rule["action"] for rule in rules("clone3")] == ["SCMP_ACT_ERRNO"]


def test_sockets_are_of_the_families_that_programs_use() -> None:
    for name in ("socket", "socketpair"):
        conditions = [condition for rule in rules(name) for condition in rule["args"]]
        assert {condition["op"] for condition in conditions} == {"SCMP_CMP_EQ"}
        assert {condition["value"] for condition in conditions} == {1, 2, 10, 16}
    assert rules("socketcall") == [], "what it asks for lies in memory"


def test_each_call_is_named_by_one_rule_unless_its_argument_decides() -> None:
    names = [name for rule in PROFILE["syscalls"] if "args" not in rule for name in rule["names"]]
    assert len(names) == len(set(names))
