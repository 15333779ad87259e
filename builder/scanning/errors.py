"""What can go wrong with a scan. None of it ever looks like an image without findings."""

from __future__ import annotations

from builder.errors import Broken, Unavailable


class ScanFailed(Unavailable):
    """Trivy could not finish: it crashed, was killed, could not reach the registry, or left no report."""

    slug = "scan-failed"
    title = "The scan did not finish"


class ScanReportInvalid(Broken):
    """Trivy ended well but its report is not in the form that Goldsmith knows, so nothing can rest on it."""

    slug = "scan-report-invalid"
    title = "The scanner's report cannot be understood"


class ScanIncomplete(Broken):
    """Trivy ended well but said that it has not looked at everything, so what it found is not all."""

    slug = "scan-incomplete"
    title = "The scanner has not looked at everything"


class ScannerUnusable(Broken):
    """The configured scanner, or what it was asked, cannot give a result that a record may name."""

    slug = "scanner-unusable"
    title = "The scanner cannot be used"


class ScannerNotAllowed(Broken):
    """The scanner's binary is none of those that this installation allows by digest. It was not started."""

    slug = "scanner-not-allowed"
    title = "The scanner's binary is not one that is allowed"


class DatabaseMissing(Unavailable):
    """There is no vulnerability database, and none could be fetched."""

    slug = "database-missing"
    title = "There is no vulnerability database"


class DatabaseStale(Unavailable):
    """The vulnerability database is older than the limit of this installation."""

    slug = "database-stale"
    title = "The vulnerability database is too old"


class DatabaseCorrupt(Unavailable):
    """The files of a vulnerability database are damaged or are not one. Fetching it again can help."""

    slug = "database-corrupt"
    title = "The vulnerability database is damaged"
