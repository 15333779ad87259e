"""A program of 300 bytes that makes one system call and ends with its errno: no compiler, no library, no image needed.

ELF for x86-64 (System V ABI, AMD64 supplement). What a C library would refuse by itself, the kernel has to refuse.
"""

from __future__ import annotations

import struct

_BASE = 0x400000
_HEADERS = 64 + 56


def program(number: int, *arguments: int) -> bytes:
    """The call's result is the exit code: 0 for success, else errno. At most three arguments."""
    registers = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba")  # movabs rdi, rsi, rdx
    code = b"\x4d\x31\xd2"  # xor r10, r10
    code += b"".join(
        register + struct.pack("<Q", value) for register, value in zip(registers, (*arguments, 0, 0, 0), strict=False)
    )
    code += b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"  # mov eax, number; syscall
    code += b"\x48\x85\xc0\x78\x03\x48\x31\xc0"  # test rax, rax; js +3; xor rax, rax
    code += b"\x48\xf7\xd8\x48\x89\xc7"  # neg rax; mov rdi, rax
    code += b"\xb8\x3c\x00\x00\x00\x0f\x05"  # exit
    size = _HEADERS + len(code)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
