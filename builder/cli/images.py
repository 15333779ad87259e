"""The command that lists released images, and shows one: its tags, what is signed of it, and what is found in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.evidence import DockerConfigOption, named_image
from builder.cli.invocation import Json, invocation_of

if TYPE_CHECKING:
    from builder.client.models import AttestationEntry, Image, Released

_EACH = 5
_EVERY = 1_000_000


def add_to(app: typer.Typer) -> None:
    app.command("images")(images)


def images(
    context: typer.Context,
    image: Annotated[
        str | None,
        typer.Argument(metavar="REF|DIGEST", help="One image, to be shown whole.", show_default=False),
    ] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Only of this recipe.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only those that were released with this tag.")] = None,
    package: Annotated[
        str | None, typer.Option("--package", metavar="NAME[@VERSION]", help="Only those that have this package.")
    ] = None,
    finding: Annotated[
        str | None, typer.Option("--finding", metavar="CVE", help="Only those with this vulnerability.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    docker_config: DockerConfigOption = None,
    json: Json = False,
) -> None:
    """List released images, the newest first, or show one.

    One is shown with its tags, its verdict, what is found in it since, and what is signed of it. `goldsmith releases`
    finds releases by more.
    """
    from builder.cli.output import print_json, say

    if image is not None:
        if recipe or tag or package or finding:
            raise typer.BadParameter(
                "an image by name needs no filter", param_hint="--recipe/--tag/--package/--finding"
            )
        digest, _ = named_image(image, docker_config)
        with invocation_of(context).client() as client:
            one, signed = client.image(digest), client.attestations_listed(digest)
        if json:
            listed = [entry.model_dump(mode="json", by_alias=True) for entry in signed]
            print_json({**one.model_dump(mode="json", by_alias=True), "attestations": listed})
        else:
            _show(one, signed)
        return
    wanted = {"recipe": recipe, "package": package, "finding": finding}
    with invocation_of(context).client() as client:
        # An image may have been released more than once; which have a tag, the service does not know.
        found = client.releases(
            {name: value for name, value in wanted.items() if value is not None},
            limit=limit * _EACH if tag is None else _EVERY,
        )
    newest: dict[str, Released] = {}
    for release in found:
        if tag is None or tag in release.tags:
            newest.setdefault(release.digest, release)
    shown = list(newest.values())[:limit]
    if json:
        print_json({"images": [release.model_dump(mode="json", by_alias=True) for release in shown]})
    elif not shown:
        say("there are no such images")
    else:
        _list(shown)


def _list(shown: list[Released]) -> None:
    from builder.cli.output import print_table

    print_table(
        ("RELEASED (UTC)", "RECIPE", "RELEASED AS", "IMAGE"),
        [(f"{one.released_at:%Y-%m-%d %H:%M}", one.recipe, ", ".join(one.tags), one.reference) for one in shown],
    )


def _show(image: Image, signed: tuple[AttestationEntry, ...]) -> None:
    from builder.cli.output import print_fields, print_table, say, styled
    from builder.cli.summary import next_commands, result_facts

    result = image.result
    print_fields(
        [
            ("image", styled(image.reference, "bold")),
            ("recipe", f"{image.recipe}  {image.recipe_digest}"),
            ("build", image.build),
            ("released", f"{image.released_at:%Y-%m-%d %H:%M:%S} UTC"),
            ("tags", ", ".join(image.tags) or "none"),
            *result_facts(result),
            ("since then", image.rescan.told if image.rescan else "not scanned again yet"),
        ]
    )
    say()
    print_table(
        ("SIGNED", "BUNDLE", "REFERRER"),
        [(one.kind, one.digest, one.referrer or "not in the registry") for one in signed],
    )
    say()
    print_fields([*next_commands(image.reference), ("verdict", f"goldsmith verdict {image.digest}")])
