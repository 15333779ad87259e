"""What Trivy says on stderr while it ends well: which lines mean that it has not looked at everything.

Its log has a line for each message: time, level and message between tabs. An ERROR is a failure, with the exceptions
below; what they are about was read in its source (0.76) and tried. A WARN is a remark, with the exceptions below. What
is not of its log but calls itself an error, such as a Go program's panic, is a failure too.
"""

from __future__ import annotations

import re

_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\S+\t(?:\x1b\[\d+m)?(WARN|ERROR|FATAL)(?:\x1b\[[\d;]*m)?\t(.*)$")
_OUTSIDE_THE_LOG = re.compile(r"(panic|fatal|error)\b", re.IGNORECASE)
_WORDS = 300

# Nothing is lost by these, though Trivy calls them errors.
_HARMLESS_ERRORS = (
    # The checks for misconfiguration inside the binary are the ones we want: it is never to fetch others.
    "Falling back to embedded checks",
    # A Go binary with odd linker flags is listed without its own version; what it is made of is listed as always.
    "Could not parse -ldflags found in build info",
    # Of several registries one did not answer; another one did, else Trivy would not have ended well.
    "Failed to download artifact",
    # On a file's name in a report: what is in the report stays as it is.
    "Unable to parse URI",
)
# Trivy calls these warnings, but each means packages that it has not looked up, or an operating system it cannot judge.
_GRAVE_WARNINGS = (
    "Unsupported os",
    "Parse error",  # of /var/lib/dpkg/status: the package is left out
    "Invalid version",
    "Invalid source version",
    "Failed to parse component",  # of a bill of materials
    "Some OS packages were skipped",
    "Skipping vulnerabilities for component",
)
_PREFIX = re.compile(r"^(?:\[[^\]]*\]\s*)*")


def complaint_in(line: str) -> str | None:
    """What a line of stderr complains of, cut to a sensible length; None for what loses nothing."""
    found = _LINE.match(line)
    if found is None:
        return _shown(line) if _OUTSIDE_THE_LOG.match(line) else None
    level, message = found.groups()
    plain = _PREFIX.sub("", message, count=1)
    grave = plain.startswith(_GRAVE_WARNINGS) if level == "WARN" else not plain.startswith(_HARMLESS_ERRORS)
    return _shown(message) if grave else None


def _shown(message: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in message)
    return " ".join(printable.split())[:_WORDS]
