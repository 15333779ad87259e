"""A comparison that the service makes: of an image of its registry, or of a file that is sent to it."""

from __future__ import annotations

from pathlib import Path

import typer
from pydantic import ValidationError

from builder.cli import exits
from builder.cli.evidence import digest_alone
from builder.cli.following import follow_quietly
from builder.cli.subjects import SubjectUnclear, told_subject
from builder.cli.summary import print_failure
from builder.client.api import Client
from builder.client.errors import AnswerUnexpected
from builder.client.models import Comparison
from builder.forensics.report import Report
from builder.forensics.subjects.subject import SubjectUnreadable
from builder.registry.reference import parse_reference

_HINT = "`goldsmith inventory SUBJECT -o FILE` takes an inventory of any subject, to be sent"
_INVENTORY = "application/vnd.goldsmith.inventory.v1"
_TAR = "application/x-tar"


def compare_remotely(client: Client, golden: str, subject: str) -> Report:
    """Ask, follow, fetch. Ends the command if the service could not compare.

    Raises SubjectUnclear, SubjectUnreadable, ReferenceInvalid, DigestInvalid, and what the client raises.
    """
    asked = _asked(client, _digest(golden), subject)
    ended = follow_quietly(client, client.build(asked.id))
    if not ended.succeeded:
        print_failure(ended)
        raise typer.Exit(exits.FAILED)
    try:
        return Report.model_validate_json(client.comparison_report(asked.id))
    except ValidationError as error:
        raise AnswerUnexpected(
            f"{client.url} answered with a report that cannot be read", hint="the server may be of another version"
        ) from error


def _digest(golden: str) -> str:
    digest = digest_alone(golden) or parse_reference(golden).digest
    if digest is None:
        raise SubjectUnclear(f"{golden!r} names no golden image by its digest", hint="write …@sha256:DIGEST")
    return digest


def _asked(client: Client, golden: str, subject: str) -> Comparison:
    kind, name = told_subject(subject)
    if kind == "image":
        return client.submit_comparison(golden, name)
    if kind not in ("inventory", "tar") or name == "-":
        raise SubjectUnclear(f"{subject!r} is no file that can be sent, and no image", hint=_HINT)
    media_type = _INVENTORY if kind == "inventory" else _TAR
    try:
        return client.upload_comparison(golden, Path(name), media_type, Path(name).name)
    except OSError as error:
        raise SubjectUnreadable(f"{name} cannot be read: {error.strerror}") from error
