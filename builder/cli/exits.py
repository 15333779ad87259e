"""Exit codes. `goldsmith --help` and docs/cli.md tell them; scripts rest on them."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
"""The command could not do its work."""
REFUSED: Final = 2
"""It could, and the answer is no: the build failed, the lock is outdated, the signature does not verify…"""
SUSPICIOUS: Final = 3
"""Of a comparison: what differs, differs as intruders leave it."""
USAGE: Final = 64
INTERRUPTED: Final = 130

EPILOG: Final = (
    "Exit codes: 0 done; 1 the command could not do its work; 2 the answer is no (build failed or cancelled, "
    "lock outdated, policy not met, image not reproduced, verification refused, subject drifted, releases "
    "different); "
    "3 the subject is suspicious; 64 wrong usage; 130 interrupted."
)
