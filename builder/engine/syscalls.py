"""The system calls that a build container may make: a seccomp profile (OCI runtime-spec, config-linux.md, seccomp).

It allows what programs of a distribution need and nothing that reaches the kernel's own objects: fewer calls than the
engine's default profile, which it replaces. And it answers every wish to wait for the disk with "done": a build
container is thrown away whole if the machine fails, and dpkg waits more often than it works.
"""

from __future__ import annotations

import json
from typing import Any

_FILES = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
    fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 ftruncate
    ftruncate64 futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat listxattr llistxattr _llseek lremovexattr lseek
    lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2 pread64 preadv
    preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename renameat renameat2
    rmdir sendfile sendfile64 setxattr splice stat stat64 statfs statfs64 statx symlink symlinkat tee truncate
    truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev chroot
"""
_MEMORY = """
    brk madvise membarrier memfd_create mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap munlock munlockall
    munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
    arch_prctl capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getegid getegid32
    geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill
    modify_ldt pause pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setfsgid
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sigaltstack
    signal sigaction sigprocmask sigreturn sigsuspend tgkill tkill ugetrlimit vfork wait4 waitid waitpid
    landlock_add_rule landlock_create_ruleset landlock_restrict_self
"""
_TIME = """
    alarm clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
    getitimer gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 times
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 futex futex_time64 futex_waitv io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64
    io_setup io_submit _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4
"""
_TALKING = """
    accept accept4 bind connect getpeername getsockname getsockopt listen mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd
    recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg
    sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown
"""
_SYSTEM = "getcpu getrandom sysinfo uname"
# What waits until the disk has what was written.
_DURABILITY = "fdatasync fsync msync sync sync_file_range sync_file_range2 syncfs"

_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag, clone(2)
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, its 32-bit and uname-2.6 forms, and the question
# UNIX, INET, INET6, NETLINK: the kernel has forty other families, which no package needs and attackers like. By
# socketcall old 32-bit programs reach them all, and what it is asked lies in memory: it is not allowed.
_FAMILIES = (1, 2, 10, 16)
_ENOSYS = 38


def build_profile() -> str:
    """The profile as the JSON text that the engine takes for `seccomp=`."""
    plain = " ".join((_FILES, _MEMORY, _PROCESSES, _TIME, _WAITING, _TALKING, _SYSTEM)).split()
    profile: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        "syscalls": [
            _allowed(plain),
            _allowed(["clone"], {"value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}),
            # Its flags lie in memory, where a filter cannot look: libraries then use clone.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
            *(_allowed(["socket", "socketpair"], {"value": value, "op": "SCMP_CMP_EQ"}) for value in _FAMILIES),
            *(_allowed(["personality"], {"value": value, "op": "SCMP_CMP_EQ"}) for value in _PERSONALITIES),
            {"names": _DURABILITY.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
        ],
    }
    return json.dumps(profile)


def _allowed(names: list[str], argument: dict[str, Any] | None = None) -> dict[str, Any]:
    """Calls that are allowed, always or when their first argument is as said."""
    entry: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ALLOW"}
    return entry if argument is None else {**entry, "args": [{"index": 0, **argument}]}
