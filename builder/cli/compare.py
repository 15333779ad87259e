"""The command that compares: what runs, or ran, with the golden image that it should be."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from builder.cli import exits
from builder.cli.evidence import DockerConfigOption, Evidence, evidence_of
from builder.cli.invocation import Invocation, Json, invocation_of
from builder.cli.trusting import Choice, IdentityOption, IssuerOption, RootOption, trusted

if TYPE_CHECKING:
    from builder.cli.offline import Files
    from builder.forensics.keeping import Kept
    from builder.forensics.report import Report

# HOST[:PORT]/…, where a kind of subject is followed by something else than a port.
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/[a-z0-9]")
_HEX = re.compile(r"[0-9a-f]{64}")
_EXIT_CODES = {"drifted": exits.REFUSED, "suspicious": exits.SUSPICIOUS}

EngineOption = Annotated[
    str,
    typer.Option(
        "--engine", metavar="URL", envvar=["GOLDSMITH_ENGINE_URL", "DOCKER_HOST"], help="The Docker Engine to ask."
    ),
]


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    MARKDOWN = "markdown"
    HTML = "html"


def add_to(app: typer.Typer) -> None:
    app.command()(compare)


def compare(
    context: typer.Context,
    named: Annotated[
        list[str],
        typer.Argument(
            metavar="[GOLDEN] SUBJECT",
            help="The golden image, HOST/REPOSITORY@sha256:… or its digest; and what to compare with it.",
            show_default=False,
        ),
    ],
    trusted_root: RootOption = None,
    identity: IdentityOption = None,
    issuer: IssuerOption = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option("--bundle", metavar="FILE", help="Offline: a Sigstore bundle of the golden image. Repeatable."),
    ] = None,
    inventory: Annotated[
        Path | None, typer.Option("--inventory", metavar="FILE", help="Offline: the golden inventory.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", metavar="FILE", help="Offline: the golden image's manifest.")
    ] = None,
    image_config: Annotated[
        Path | None, typer.Option("--image-config", metavar="FILE", help="Offline: the golden image's config.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Of a container only what its engine says has changed; proves less.")
    ] = False,
    rules: Annotated[
        Path | None, typer.Option("--rules", metavar="FILE", help="Rules of judgement before the shipped ones.")
    ] = None,
    evidence_directory: Annotated[
        Path | None, typer.Option("--evidence", metavar="DIR", help="Keep changed files, diffs and report there.")
    ] = None,
    form: Annotated[Format | None, typer.Option("--format", help="What to write. [default: text]")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there; the terminal gets text.")
    ] = None,
    sign: Annotated[bool, typer.Option("--sign", help="Sign the report as an attestation, beside it.")] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Let the service compare: an image it has, or a file that is sent to it.")
    ] = False,
    docker_config: DockerConfigOption = None,
    engine: EngineOption = "unix:///var/run/docker.sock",
    json: Json = False,
) -> None:
    """Compare what runs with its golden image.

    SUBJECT is a container, or container:, image:, layout:, tar:, dir: or inventory: and a name. The signed provenance
    of the golden image is verified first. It names the inventory, and every path of the subject is compared with that,
    byte for byte. With --bundle and --inventory nobody is asked: neither server nor registry. With --remote the
    service compares and keeps the report: an image of its registry, or an inventory or tar file that is sent to it.
    """
    from builder.cli.comparing import compare_with, keep, verified_golden
    from builder.cli.subjects import subject_of
    from builder.cli.writing import refuse_unwritable
    from builder.forensics.keeping import prepare
    from builder.settings import load_settings

    golden_name, subject_name = _ordered(named, offline=bool(bundle) and not remote)
    if sign and output is None and evidence_directory is None:
        raise typer.BadParameter("it is written beside the report: give --output or --evidence", param_hint="--sign")
    if output is not None:
        refuse_unwritable(output)
    if evidence_directory is not None:
        prepare(evidence_directory)
    if remote:
        _refuse_with_remote(
            offline=bool(bundle or inventory or manifest or image_config), fast=fast, rules=rules is not None,
            evidence=evidence_directory is not None, sign=sign,
            trust=(trusted_root, identity, issuer) != (None, None, None),
        )  # fmt: skip
        report = _remotely(invocation_of(context), golden_name or "", subject_name)
        _finish(report, None, Format.JSON if json else form or Format.TEXT, output, sign=False)
    own_rules = rules or load_settings().comparison_rules
    invocation = invocation_of(context)
    with (
        tempfile.TemporaryDirectory(prefix="goldsmith-compare-") as directory,
        _evidence(invocation, golden_name, _files(bundle, inventory, manifest, image_config), docker_config) as found,
    ):
        golden = verified_golden(
            found, trusted(invocation, Choice(trusted_root, identity, issuer), ask_server=not bundle)
        )
        with subject_of(subject_name, engine_url=engine, fast=fast, docker_config=docker_config) as subject:
            comparison = compare_with(found, golden, subject, own_rules, Path(directory))
            kept = keep(evidence_directory, comparison, subject, found) if evidence_directory else None
    _finish(comparison.report, kept, Format.JSON if json else form or Format.TEXT, output, sign=sign)


def _finish(report: Report, kept: Kept | None, form: Format, output: Path | None, *, sign: bool) -> NoReturn:
    _tell(report, kept, form, output, sign=sign)
    raise typer.Exit(_EXIT_CODES.get(str(report.verdict), exits.DONE))


def _refuse_with_remote(**given: bool) -> None:
    """What only whoever compares can do."""
    options = {"offline": "--bundle and the like", "trust": "--trusted-root, --identity and --issuer"}
    for name, is_given in given.items():
        if is_given:
            raise typer.BadParameter(
                f"the service compares by its own settings: leave {options.get(name, f'--{name}')} out",
                param_hint="--remote",
            )


def _remotely(invocation: Invocation, golden: str, subject: str) -> Report:
    from builder.cli.remote import compare_remotely

    with invocation.client() as client:
        return compare_remotely(client, golden, subject)


def _tell(report: Report, kept: Kept | None, form: Format, output: Path | None, *, sign: bool) -> None:
    from builder.cli.compared import print_kept, print_report, report_text
    from builder.cli.writing import write
    from builder.forensics.keeping import add

    if output is not None:
        write(output, (_rendered(report, form) if form is not Format.TEXT else report_text(report)).encode("utf-8"))
    if kept is not None:
        for name, shape in (("report.json", Format.JSON), ("report.html", Format.HTML)):
            add(kept.directory, name, _rendered(report, shape).encode("utf-8"))
    if output is None and form is not Format.TEXT:
        typer.echo(_rendered(report, form), nl=False)
    else:
        print_report(report)
        if kept is not None:
            print_kept(kept)
    if sign:
        from builder.cli.attesting import print_signed, signed_report

        signed = signed_report(report)
        print_signed(signed)
        if output is not None:
            write(output.with_name(f"{output.name}.sigstore.json"), signed.bundle)
        if kept is not None:
            add(kept.directory, "report.sigstore.json", signed.bundle)


def _rendered(report: Report, form: Format) -> str:
    from builder.forensics.forms import Form, rendered

    return rendered(report, Form(form))


def _ordered(named: list[str], *, offline: bool) -> tuple[str | None, str]:
    """The golden image and the subject. Which is which shows from how they look, so both orders are understood."""
    if len(named) == 1 and offline:
        return None, named[0]
    if len(named) != 2:
        raise typer.BadParameter(
            "give the golden image and what to compare with it; the image may be left out with --bundle",
            param_hint="[GOLDEN] SUBJECT",
        )
    first, second = named
    return (second, first) if _like_an_image(second) > _like_an_image(first) else (first, second)


def _like_an_image(name: str) -> int:
    """How surely an argument names an image: 2 by digest, 1 as a reference or hex digits, 0 not at all."""
    reference = _REFERENCE.match(name) is not None
    if name.startswith("sha256:") or (reference and "@sha256:" in name):
        return 2
    return int(reference or _HEX.fullmatch(name) is not None)


def _files(
    bundles: list[Path] | None, inventory: Path | None, manifest: Path | None, config: Path | None
) -> Files | None:
    from builder.cli.offline import Files

    if config is not None and manifest is None:
        raise typer.BadParameter(
            "the manifest says which config is the image's: give --manifest too", param_hint="--image-config"
        )
    if bundles and inventory is not None:
        return Files(tuple(bundles), inventory, manifest, config)
    if bundles or inventory or manifest or config:
        raise typer.BadParameter("offline, both --bundle and --inventory are needed", param_hint="--bundle")
    return None


@contextmanager
def _evidence(
    invocation: Invocation, golden: str | None, files: Files | None, docker_config: Path | None
) -> Iterator[Evidence]:
    if files is None:
        assert golden is not None, "only offline may it be left out"
        with evidence_of(invocation, golden, docker_config) as found:
            yield found
        return
    from builder.cli.offline import evidence_in_files
    from builder.image.digests import parse_digest

    yield evidence_in_files(files, parse_digest(golden.rpartition("@")[2]) if golden is not None else None)
