"""The command: which checks concern this machine, run and told a line each."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import exits
from builder.cli.invocation import Invocation, Json, invocation_of

if TYPE_CHECKING:
    from builder.cli.doctor.findings import Check
    from builder.settings import Settings

_SECONDS = 15.0


class Role(StrEnum):
    CLIENT = "client"
    API = "api"
    BUILD = "build"
    SCAN = "scan"
    RELEASE = "release"
    ERRANDS = "errands"
    REBUILD = "rebuild"
    DISPATCHER = "dispatcher"


def add_to(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    context: typer.Context,
    role: Annotated[
        list[Role] | None,
        typer.Option(
            "--role",
            help="What this machine does; can be repeated. [default: client, and what its settings are for]",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option("--timeout", min=1, max=300, help="Seconds for all checks.")] = _SECONDS,
    json: Json = False,
) -> None:
    """Check what Goldsmith needs here, and how to mend it.

    Exit code 2 when something fails.
    """
    from rich.text import Text

    from builder.cli.doctor.findings import State, run
    from builder.cli.output import print_json, say, styled

    roles = list(dict.fromkeys(role or _roles_of_settings()))
    found = []
    for check, finding in run(_checks(invocation_of(context), roles), seconds):
        told = {"name": check.name, "state": finding.state.value, "detail": finding.detail, "mend": finding.mend}
        found.append(told)
        if not json:
            style = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}[finding.state]
            mend = f" ({finding.mend})" if finding.mend else ""
            say(Text(f"{finding.state:<4}  ", style=style), styled(f"{check.name:<15}"), f" {finding.detail}{mend}")
    healthy = all(one["state"] != State.FAIL for one in found)
    if json:
        print_json({"healthy": healthy, "roles": [one.value for one in roles], "checks": found})
    if not healthy:
        raise typer.Exit(exits.REFUSED)


def _roles_of_settings() -> list[Role]:
    """A machine without settings of the service is a client's. An engine is named where builds are, an identity where
    releases are signed."""
    import os

    named = {name for name, value in os.environ.items() if value}
    if not named & {"GOLDSMITH_DATABASE_URL", "GOLDSMITH_REDIS_URL", "GOLDSMITH_REGISTRY", "GOLDSMITH_STATE_DIRECTORY"}:
        return [Role.CLIENT]
    asked = [Role.CLIENT, Role.API, Role.DISPATCHER]
    if "GOLDSMITH_ENGINE_URL" in named:
        asked.append(Role.REBUILD if "GOLDSMITH_REBUILDER_IDENTITY" in named else Role.BUILD)
    if named & {"GOLDSMITH_TRIVY_DATABASE", "GOLDSMITH_TRIVY"}:
        asked += [Role.SCAN, Role.ERRANDS]
    if "GOLDSMITH_LEDGER_KEY_FILE" in named:
        asked.append(Role.RELEASE)
    return asked


def _checks(invocation: Invocation, roles: list[Role]) -> list[Check]:
    """Each once, however many roles have it; of the disk the role that needs most of it."""
    from builder.cli.doctor import client, clock, hosts, signing
    from builder.cli.doctor.findings import Check, Finding, fail, ok
    from builder.errors import GoldsmithError
    from builder.settings import load_settings

    found: dict[str, Check] = {}
    urls = []
    if Role.CLIENT in roles:
        found |= {check.name: check for check in client.checks(invocation)}
        urls += _api_url(invocation)
    roomy = (Role.BUILD, Role.REBUILD, Role.SCAN, Role.ERRANDS)
    serving = sorted((one for one in roles if one is not Role.CLIENT), key=lambda one: one not in roomy)
    if serving:
        settings: Settings | None = None
        told: Finding
        try:
            settings = load_settings()
            told = ok("the GOLDSMITH_* variables can be read")
        except GoldsmithError as error:
            told = fail(error.detail, error.hint or "docs/settings.md lists them")
        found["settings"] = Check("settings", lambda: told, "docs/settings.md lists them")
        for one in serving if settings else ():
            assert settings is not None
            for check in [*hosts.checks(one, settings), *signing.checks(one, settings)]:
                found.setdefault(check.name, check)
        urls += _registry_url(settings) if settings else []
    found["clock"] = clock.check(urls)
    return list(found.values())


def _api_url(invocation: Invocation) -> list[str]:
    from builder.errors import GoldsmithError

    try:
        return [f"{invocation.connection().url}/healthz"]
    except GoldsmithError:
        return []


def _registry_url(settings: Settings) -> list[str]:
    from builder.cli.evidence import registry_access
    from builder.errors import GoldsmithError

    try:
        return [f"{registry_access(None).base_url(settings.registry)}/v2/"]
    except GoldsmithError:
        return []
