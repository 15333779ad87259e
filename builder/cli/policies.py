"""The commands about policies: what is demanded and by whom, which rules there are, whether a policy file is valid."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import exits, trying
from builder.cli.invocation import Json, invocation_of
from builder.cli.trying import PolicyOption
from builder.cli.wanted import recipe_file
from builder.errors import Rejected

if TYPE_CHECKING:
    from builder.policy.described import RuleDescribed
    from builder.policy.in_force import PolicyInForce

app = typer.Typer(help="See what is demanded, check a policy, or try one.", no_args_is_help=True)
trying.add_to(app)


class RuleUnknown(Rejected):
    slug = "rule-unknown"
    title = "There is no rule of that name"
    status = 404


@app.command()
def show(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME|FILE.yaml", help="What is demanded of this recipe, its own included."),
    ] = None,
    policy: PolicyOption = None,
    json: Json = False,
) -> None:
    """Show the rules in force, and who demands what.

    Each rule with its parameters; of each parameter, whose demand its value is.
    """
    from builder.cli.output import print_json
    from builder.policy.in_force import policy_in_force
    from builder.policy.organisation import OrganisationPolicy
    from builder.recipes.catalogue import read_recipe_file

    file = recipe_file(recipe) if recipe is not None else None
    if policy is not None and recipe is not None and file is None:
        raise typer.BadParameter("beside --policy name a recipe's file", param_hint="--recipe")
    if policy is None and file is None:
        with invocation_of(context).client() as client:
            found = client.policy(recipe)
    else:
        if policy is not None:
            organisation = trying.policy_of(policy)
        else:
            with invocation_of(context).client() as client:
                organisation = OrganisationPolicy.model_validate(client.policy().document)
        own = read_recipe_file(file) if file is not None else None
        found = policy_in_force(
            organisation, own.metadata.name if own else None, own.spec.policy if own is not None else None
        )
    if json:
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        _print_policy(found)


@app.command()
def rules(
    rule: Annotated[str | None, typer.Argument(metavar="RULE", help="Tell of this one.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """List the rules that a policy can name, or tell of one. Needs no API."""
    import difflib

    from builder.cli.output import print_json, print_table
    from builder.policy.described import described_rules

    every = {one.name: one for one in described_rules()}
    if rule is not None and rule not in every:
        near = difflib.get_close_matches(rule, every, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "`goldsmith policy rules` lists them"
        raise RuleUnknown(f"no rule is named {rule!r}", hint=hint)
    chosen = [every[rule]] if rule is not None else list(every.values())
    if json:
        print_json({"rules": [one.model_dump(mode="json", by_alias=True) for one in chosen]})
    elif rule is not None:
        _print_rule(every[rule])
    else:
        print_table(("RULE", "WHAT HOLDS", "JUDGED"), [(one.name, one.title, one.judged) for one in chosen])


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Policy files.", show_default=False)],
    json: Json = False,
) -> None:
    """Check policy files, custom rules included. Needs no API.

    Every fault is told with its line, its column, its field and the way out.
    """
    from builder.cli.output import complain, print_json, say
    from builder.counted import counted
    from builder.errors import Fault, GoldsmithError
    from builder.policy.in_force import policy_in_force

    checked: list[dict[str, Any]] = []
    for file in files:
        try:
            found = policy_in_force(trying.policy_of(file))
        except GoldsmithError as error:
            faults = error.errors or [Fault(message=error.detail, hint=error.hint)]
            checked.append({"file": str(file), "valid": False, "errors": [one.model_dump() for one in faults]})
            for fault in [] if json else faults:
                place = f":{fault.line}:{fault.column}" if fault.line else ""
                complain(f"{file}{place}: {fault.model_copy(update={'line': None, 'column': None})}")
        else:
            told = {"name": found.name, "version": found.version, "digest": found.digest}
            checked.append({"file": str(file), "valid": True, **told})
            if not json:
                judged = f"{counted(len(found.rules), 'rule')} and {counted(len(found.custom), 'custom rule')}"
                say(f"{file}: valid, {found.name} {found.version}, {judged} for every recipe, {found.digest}")
    if json:
        print_json({"files": checked})
    if not all(one["valid"] for one in checked):
        raise typer.Exit(exits.FAILED)


@app.command()
def facts(
    context: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="BUILD|IMAGE", help="A build's id, or an image by digest.", show_default=False)
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there.")] = None,
) -> None:
    """Fetch the facts that the gate judged.

    Policies can be tried on them without the service.
    """
    from builder.cli.output import ascii_json
    from builder.cli.verdict import build_of
    from builder.cli.writing import write

    with invocation_of(context).client() as client:
        content = client.facts(build_of(client, subject))
    if output is not None:
        write(output, content)
    else:
        typer.echo(ascii_json(content.decode("utf-8", "replace")))


def _print_policy(found: PolicyInForce) -> None:
    from builder.cli.output import print_fields, print_table, say, styled

    rows = []
    for rule in found.rules:
        values = list(rule.parameters.items()) or [("", None)]
        for index, (name, value) in enumerate(values):
            rows.append(
                (
                    "" if index else rule.rule,
                    name,
                    "" if not name else "no limit" if value is None else json_text.dumps(value),
                    rule.sources.get(name, rule.source),
                )
            )
    for one in found.custom:
        rows.append((one.rule, "", one.expression, one.source))
    print_table(("RULE", "PARAMETER", "VALUE", "DEMANDED BY"), [(styled(row[0], "bold"), *row[1:]) for row in rows])
    say()
    print_fields(
        [
            ("policy", f"{found.name} {found.version}, {found.digest}"),
            ("says", found.description or None),
            ("recipe", found.recipe),
            ("effective", found.effective_digest),
        ]
    )


def _print_rule(rule: RuleDescribed) -> None:
    from builder.cli.output import print_fields, print_table, say, styled

    say(styled(f"{rule.name}: {rule.title}", "bold"))
    say()
    for line in rule.about.splitlines():
        say(line)
    say()
    if rule.parameters:
        print_table(
            ("PARAMETER", "DEFAULT", "MEANING", "STRICTER"),
            [
                (one.name, "none" if one.default is None else json_text.dumps(one.default), one.meaning,
                 one.stricter.replace("`", ""))
                for one in rule.parameters
            ],
        )  # fmt: skip
        say()
    by_default = json_text.dumps(rule.by_default) if rule.by_default else None
    print_fields(
        [
            ("judged", rule.judged),
            ("by default", by_default),
            ("in a recipe", rule.field),
            ("to pass", rule.remedy),
            ("page", f"docs/{rule.documentation}"),
        ]
    )
