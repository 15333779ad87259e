"""`goldsmith policy test`: a policy tried on stored scans, by the service, or on files of facts without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import exits
from builder.cli.invocation import Invocation, Json, invocation_of
from builder.errors import Rejected

if TYPE_CHECKING:
    from builder.client.api import Client
    from builder.policy.organisation import OrganisationPolicy
    from builder.policy.policy import Policy
    from builder.verdicts.dry_run import DryRun

_MOST_RELEASED = 10_000
_WITHOUT_EXCEPTIONS = "a file is judged without those of the service"
_LEFT_OUT = ("facts-unavailable",)

PolicyOption = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="A policy file. [default: the service's]")
]


class PolicyFileUnreadable(Rejected):
    slug = "policy-file-unreadable"
    title = "The policy file cannot be read"


class FactsFileInvalid(Rejected):
    slug = "facts-file-invalid"
    title = "The file holds no facts"


@dataclass(frozen=True)
class Outcome:
    """What came of one subject: a dry run, or why there is none."""

    subject: str
    tried: DryRun | None
    why: str = ""


def add_to(app: typer.Typer) -> None:
    app.command("test")(try_policy)


def try_policy(
    context: typer.Context,
    subjects: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BUILD|IMAGE|FACTS.json]...",
            help="A build's id, an image by digest, or a file of facts (`goldsmith policy facts`).",
            show_default=False,
        ),
    ] = None,
    policy: PolicyOption = None,
    all_released: Annotated[bool, typer.Option("--all-released", help="Every released image.")] = False,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE.yaml", help="Its spec.policy, not that of the recipe that was built."),
    ] = None,
    json: Json = False,
) -> None:
    """Try a policy on what was scanned. No image is looked at, nothing is decided and nothing kept.

    It ends with 2 if the policy would stop one of the images, and with 1 if one has no facts to judge.
    """
    from builder.cli.output import print_json

    if bool(subjects) == all_released:
        raise typer.BadParameter("name something to judge, or give --all-released", param_hint="SUBJECT")
    asking = Asking(invocation_of(context), policy, recipe)
    outcomes = asking.of_released() if all_released else [asking.of(one) for one in subjects or ()]
    if json:
        print_json({"subjects": [_data(one) for one in outcomes]})
    elif len(outcomes) == 1 and outcomes[0].tried is not None:
        _print_one(outcomes[0].tried)
    else:
        _print_lines(outcomes)
    if any(one.tried is not None and not one.tried.verdict.passed for one in outcomes):
        raise typer.Exit(exits.REFUSED)
    if any(one.tried is None for one in outcomes):
        raise typer.Exit(exits.FAILED)


def policy_of(file: Path) -> OrganisationPolicy:
    """A policy file, checked. Raises PolicyFileUnreadable or PolicyInvalid."""
    from builder.policy.checked import checked_policy

    try:
        return checked_policy(file.read_bytes(), file.name)
    except OSError as error:
        raise PolicyFileUnreadable(f"cannot read {file}: {error.strerror}", hint="check the path") from error


class Asking:
    """One policy for all subjects. Its files are read before anybody is asked."""

    def __init__(self, invocation: Invocation, policy: Path | None, recipe: Path | None) -> None:
        from builder.recipes.catalogue import read_recipe_file

        self._invocation = invocation
        self._organisation = policy_of(policy) if policy is not None else None
        self._text = policy.read_text("utf-8") if policy is not None else None
        self._recipe: Policy | None = read_recipe_file(recipe).spec.policy if recipe is not None else None

    def of(self, subject: str) -> Outcome:
        """Raises what the client raises, FactsFileInvalid, and for a tag BadParameter."""
        from builder.cli.verdict import build_of

        if subject.endswith(".json") or Path(subject).is_file():
            return Outcome(subject, self._of_file(Path(subject)))
        with self._invocation.client() as client:
            return self._asked(client, subject, build_of(client, subject))

    def of_released(self) -> list[Outcome]:
        """Of several builds that released the same image the newest counts."""
        with self._invocation.client() as client:
            newest: dict[str, str] = {}
            for build in client.builds(state="released", limit=_MOST_RELEASED):
                if build.result.digest is not None and build.unchanged_since is None:
                    newest.setdefault(build.result.digest, build.id)
            return [self._asked(client, digest, build_id) for digest, build_id in newest.items()]

    def _asked(self, client: Client, subject: str, build_id: str) -> Outcome:
        from builder.client.errors import ApiProblem

        asked: dict[str, Any] = {"build": build_id, "policy": self._text}
        if self._recipe is not None:
            asked["recipePolicy"] = self._recipe.model_dump(mode="json", by_alias=True, exclude_unset=True)
        try:
            return Outcome(subject, client.try_policy({name: one for name, one in asked.items() if one is not None}))
        except ApiProblem as error:
            if error.told.slug not in _LEFT_OUT:
                raise
            return Outcome(subject, None, error.detail)

    def _of_file(self, file: Path) -> DryRun:
        """Without exceptions: their signatures are the service's to verify."""
        from pydantic import ValidationError

        from builder.policy.facts import Facts
        from builder.policy.organisation import OrganisationPolicy
        from builder.verdicts.dry_run import ExceptionBasis, RecipePolicy, Subject, dry_run

        try:
            facts = Facts.model_validate_json(file.read_bytes())
        except OSError as error:
            raise FactsFileInvalid(f"cannot read {file}: {error.strerror}", hint="check the path") from error
        except ValidationError as error:
            raise FactsFileInvalid(
                f"{file} holds no facts of this version", hint="`goldsmith policy facts BUILD -o FILE` fetches them"
            ) from error
        if self._organisation is None:
            with self._invocation.client() as client:
                self._organisation = OrganisationPolicy.model_validate(client.policy().document)
        return dry_run(
            self._organisation,
            Subject(facts),
            self._recipe,
            recipe_policy=RecipePolicy.REQUEST if self._recipe is not None else RecipePolicy.NONE,
            basis=ExceptionBasis(counted=False, as_of=facts.gathered_at, left_aside=(_WITHOUT_EXCEPTIONS,)),
        )


def _data(outcome: Outcome) -> dict[str, Any]:
    if outcome.tried is None:
        return {"subject": outcome.subject, "problem": outcome.why}
    return {"subject": outcome.subject, **outcome.tried.model_dump(mode="json", by_alias=True)}


def _print_one(tried: DryRun) -> None:
    from builder.cli.verdict import print_verdict

    basis = tried.exceptions
    counted = f"counted as of {basis.as_of:%Y-%m-%d %H:%M} UTC" if basis.counted else "not counted"
    notes = [
        ("recipe", _JUDGED_BY[tried.recipe_policy]),
        ("exceptions", "; ".join([counted, *basis.left_aside])),
        *([("newly fails", ", ".join(tried.newly_failing))] if tried.newly_failing else []),
        *(("refused", f"{one}") for one in tried.looser),
    ]
    print_verdict(tried.verdict, headline=tried.headline, notes=notes)


_JUDGED_BY = {
    "build": "judged by its own policy too, as it was built",
    "request": "judged by the policy that --recipe names too",
    "none": "its own policy is not known: judged by the organisation's alone (--recipe FILE.yaml names one)",
}


def _print_lines(outcomes: list[Outcome]) -> None:
    from builder.cli.output import complain, print_table, say, styled

    rows = []
    for one in outcomes:
        if one.tried is None:
            complain(f"{one.subject} was not judged: {one.why}", "yellow")
            rows.append((styled("unknown", "yellow"), "", one.subject, "", "", ""))
            continue
        verdict = one.tried.verdict
        failing = [rule.rule for rule in verdict.failed]
        newly = list(one.tried.newly_failing or ())
        rows.append(
            (
                styled("passes", "green") if verdict.passed else styled("FAILS", "bold red"),
                verdict.recipe,
                one.subject,
                ", ".join(newly),
                ", ".join(rule for rule in failing if rule not in newly),
                ", ".join((fault.field or "").removeprefix("spec.policy.") for fault in one.tried.looser),
            )
        )
    if rows:
        print_table(("VERDICT", "RECIPE", "SUBJECT", "NEWLY FAILS", "FAILS TOO", "RECIPE LOOSER IN"), rows)
    passed = sum(one.tried is not None and one.tried.verdict.passed for one in outcomes)
    say(f"{passed} of {len(outcomes)} would pass")
