"""The commands about webhooks: create one, try it out, see what it was sent, send it once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.invocation import Json, invocation_of

if TYPE_CHECKING:
    from builder.client.webhooks import Delivery, Webhook, Webhooks

app = typer.Typer(help="Webhooks: told of builds, findings and revocations. For administrators.", no_args_is_help=True)

WebhookArgument = Annotated[str, typer.Argument(metavar="WEBHOOK", help="As `list` shows it.", show_default=False)]
NumberArgument = Annotated[int, typer.Argument(metavar="DELIVERY", min=1, help="Its number.", show_default=False)]


@app.command("create")
def create(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="https://HOST/PATH.", show_default=False)],
    event: Annotated[
        list[str], typer.Option("--event", help="build.*, findings.risen, …; can be repeated.", show_default=False)
    ],
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    json: Json = False,
) -> None:
    """Create a webhook and print its secret, this once."""
    from builder.cli.output import complain, print_json

    with _webhooks(context) as webhooks:
        made = webhooks.create(url, event, description)
    if json:
        print_json(made.model_dump(mode="json", by_alias=True))
        return
    typer.echo(made.secret)
    complain(f"This is the secret of webhook {made.id}, for {', '.join(made.events)}. It cannot be shown again.")


@app.command("list")
def list_webhooks(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    json: Json = False,
) -> None:
    """List the webhooks."""
    from builder.cli.output import print_json, print_table, say

    with _webhooks(context) as webhooks:
        found = webhooks.every(ended=everything)
    if json:
        print_json({"webhooks": [_told(one) for one in found]})
    elif not found:
        say("there are no webhooks")
    else:
        print_table(
            ("WEBHOOK", "STATE", "EVENTS", "URL", "DESCRIPTION"),
            [(one.id, one.ended or "active", ", ".join(one.events), one.url, one.description) for one in found],
        )


@app.command("remove")
def remove(context: typer.Context, webhook: WebhookArgument, json: Json = False) -> None:
    """Send it nothing more."""
    from builder.cli.output import print_json, say

    with _webhooks(context) as webhooks:
        ended = webhooks.remove(webhook)
    if json:
        print_json(_told(ended))
    else:
        say(f"the webhook {ended.id} to {ended.url} is removed")


@app.command("test")
def try_out(context: typer.Context, webhook: WebhookArgument, json: Json = False) -> None:
    """Send it a `webhook.test` event; `deliveries` shows what came of it."""
    with _webhooks(context) as webhooks:
        _print([webhooks.try_out(webhook)], json)


@app.command("deliveries")
def deliveries(
    context: typer.Context,
    webhook: WebhookArgument,
    state: Annotated[str | None, typer.Option("--state", help="Only pending, delivered or failed ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 20,
    json: Json = False,
) -> None:
    """Show what it was sent, the newest first."""
    with _webhooks(context) as webhooks:
        _print(webhooks.deliveries(webhook, state=state, limit=limit), json)


@app.command("replay")
def replay(context: typer.Context, webhook: WebhookArgument, number: NumberArgument, json: Json = False) -> None:
    """Send it the same message once more, under the same id."""
    with _webhooks(context) as webhooks:
        _print([webhooks.replay(webhook, number)], json)


@contextmanager
def _webhooks(context: typer.Context) -> Iterator[Webhooks]:
    from builder.client.webhooks import Webhooks

    with invocation_of(context).client() as client:
        yield Webhooks(client)


def _print(found: list[Delivery] | tuple[Delivery, ...], json: bool) -> None:
    from builder.cli.output import print_json, print_table, say, styled

    if json:
        print_json({"deliveries": [one.model_dump(mode="json", by_alias=True) for one in found]})
    elif not found:
        say("it was sent nothing")
    else:
        colours = {"delivered": "green", "failed": "bold red", "pending": "yellow"}
        print_table(
            ("DELIVERY", "CREATED (UTC)", "EVENT", "STATE", "TRIES", "ANSWER", "WHY"),
            [
                (
                    str(one.id),
                    f"{one.created_at:%Y-%m-%d %H:%M:%S}",
                    one.event,
                    styled(one.state, colours.get(one.state, "")),
                    str(one.tries),
                    str(one.status or "-"),
                    one.problem.detail if one.problem else "",
                )
                for one in found
            ],
        )


def _told(one: Webhook) -> dict[str, object]:
    return one.model_dump(mode="json", by_alias=True, exclude={"secret"})
