"""A Debian root file system from packages alone, by mmdebstrap, without any network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from builder.engine.memory import in_memory
from builder.engine.stored import write_stored_archive
from builder.errors import Broken, ProgramFailed
from builder.planning.debs import DebStore
from builder.planning.lock import LockedPackage
from builder.process import run

# What a bootstrap installs: apt's own words for "everything essential" (apt-patterns(7)), and apt itself.
BOOTSTRAP = ("?essential", "apt")

# mmdebstrap copies these from the host or writes its own source into them; an image must have neither.
_FOREIGN = "etc/hostname etc/resolv.conf etc/apt/sources.list etc/apt/apt.conf.d/99mmdebstrap"

# Of the packages' bytes: a copy of them, the tree, and what small files take in whole pages.
_ROOM = 4


class BootstrapFailed(Broken):
    slug = "bootstrap-failed"
    title = "The Debian base could not be made"


def bootstrap(
    target: Path,
    *,
    suite: str,
    architecture: str,
    packages: Sequence[LockedPackage],
    debs: DebStore,
    epoch: int,
    timeout: float,
    on_line: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    """Write a tar of a root file system made of exactly these packages to `target`.

    `epoch` (UTC seconds) becomes SOURCE_DATE_EPOCH. Raises BootstrapFailed, ProgramTimedOut or Cancelled.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="bootstrap-") as work:
        archive, scratch = Path(work).absolute() / "archive", Path(work).absolute() / "scratch"
        archive.mkdir()
        scratch.mkdir()
        stored = write_stored_archive(archive, packages, debs)
        try:
            run(
                [
                    # dpkg waits for the disk some 1,600 times, to save what is of no use once it has failed.
                    *in_memory(scratch, _ROOM * stored),
                    "mmdebstrap", "--variant=apt", "--format=tar", f"--architectures={architecture}",
                    '--aptopt=APT::Sandbox::User "root"', '--aptopt=Acquire::Languages "none"',
                    "--dpkgopt=force-unsafe-io",
                    f'--customize-hook=cd "$1" && rm -f {_FOREIGN}',
                    suite, target.absolute(), f"deb [trusted=yes] copy://{archive} ./",
                ],
                timeout=timeout,
                env={"SOURCE_DATE_EPOCH": str(epoch), "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": str(scratch)},
                on_stderr=on_line,
                should_stop=should_stop,
            )  # fmt: skip
        except ProgramFailed as error:
            raise BootstrapFailed(f"mmdebstrap failed: {error.stderr_tail}", hint="see the log") from error
