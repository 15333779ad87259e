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


class ScannerUnusable(Broken):
    """The configured scanner, or what it was asked, cannot give a result that a record may name."""

    slug = "scanner-unusable"
    title = "The scanner cannot be used"


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
