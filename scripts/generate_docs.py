"""Writes the reference pages that the code itself knows: settings, problems, canonical form, recipe schema, API.

`python -m scripts.generate_docs` writes them below docs/; a test holds that they are current.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path

from pydantic import BaseModel, SecretStr

import builder
import workers
from builder.api.app import create_app
from builder.api.problems import known_problems
from builder.api.scopes import ROUTES
from builder.forensics.configuration_rules import CONFIGURATION_RULES
from builder.forensics.diff import Diff
from builder.forensics.findings import Kind
from builder.forensics.report import Report
from builder.forensics.rules import FORMAT as RULES_FORMAT
from builder.forensics.rules import Power, shipped_rules
from builder.image.canonical_rules import RULES, SETTLED, Action
from builder.image.entry import EntryType
from builder.policy.organisation import OrganisationPolicy
from builder.recipes.schema import recipe_schema
from builder.settings import Settings
from builder.verification.policy import VerificationPolicy
from scripts.policy_pages import policy_pages

DOCS = Path(__file__).resolve().parents[1] / "docs"


def pages() -> dict[str, str]:
    """Each page's name and text."""
    return {
        "settings.md": _settings(),
        "problems.md": _problems(),
        "scopes.md": _scopes(),
        "formats/canonical.md": _canonical(),
        "recipe.schema.json": json.dumps(recipe_schema(), indent=2) + "\n",
        "comparison-rules.md": _comparison_rules(),
        "comparison.schema.json": _schema(Report, "Goldsmith comparison"),
        "diff.schema.json": _schema(Diff, "Goldsmith diff"),
        "openapi.json": json.dumps(create_app(Settings(database_url="sqlite://")).openapi(), indent=2) + "\n",
        "policy.schema.json": _schema(OrganisationPolicy, "Goldsmith policy"),
        "verification-policy.schema.json": _schema(VerificationPolicy, "Goldsmith verification policy"),
        **policy_pages(),
    }


def _settings() -> str:
    lines = [
        "# Settings",
        "",
        "Environment variables. Made from `builder/settings.py`; do not edit.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        default = "" if value is None else f"`{value}`"
        lines.append(f"| `GOLDSMITH_{name.upper()}` | {default} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def _problems() -> str:
    """Every module is imported first: a problem is known once its class is."""
    for package in (builder, workers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name:
                importlib.import_module(module.name)
    lines = [
        "# Problems",
        "",
        "Every failure is a problem detail (RFC 9457) in the API, and a line in the CLI that says the same. `type` is",
        "`/problems/NAME`, which the service answers with a page to any key. Made from the error classes; do not edit.",
        "",
        "| name | status | a retry can help | what it means |",
        "| --- | --- | --- | --- |",
    ]
    for slug, kind in sorted(known_problems().items()):
        doc = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ") if "__doc__" in vars(kind) else ""
        meaning = f"{kind.title}. {doc}".replace("|", "\\|").strip()
        lines.append(f"| `{slug}` | {kind.status} | {'yes' if kind.retryable else 'no'} | {meaning} |")
    return "\n".join(lines) + "\n"


def _scopes() -> str:
    lines = [
        "# Scopes",
        "",
        "What an API key may do. `admin` implies all others; none of the others implies another: who asks for builds",
        "and follows them needs `builds:write` and `builds:read`. Where two are named, one is enough. Made from",
        "`builder/api/scopes.py`; do not edit.",
        "",
        "| route | scope |",
        "| --- | --- |",
    ]
    for action, needs in ROUTES.items():
        lines.append(f"| `{action}` | {' or '.join(f'`{scope}`' for scope in needs.scopes) or 'open'} |")
    return "\n".join(lines) + "\n"


def _canonical() -> str:
    actions = {
        Action.DROP: "left out",
        Action.EMPTY: "a file stays, without its content",
        Action.CONTENTS: "stays empty, owned by root",
        Action.ENGINE: "left out, and never deleted from a base: an engine makes it for each container",
        Action.XATTR: "extended attribute left out of every entry",
    }
    lines = [
        "# What the canonical form leaves out or settles",
        "",
        "Made from `builder/image/canonical_rules.py`; do not edit. Two builds of one lock may differ in what stands",
        "here, and in nothing else. [ADR 5](../adr/0005-canonical-form.md) says why there is such a form.",
        "",
        "## Said in one way for every tree",
        "",
        "| what | form | reason |",
        "| --- | --- | --- |",
        *(f"| {row.what} | {row.form} | {row.reason} |" for row in SETTLED),
        "",
        "## Paths and attributes",
        "",
        "The first row that fits decides. `*` stands for any part of one name, `/**` for everything below.",
        "",
        "| path | what becomes of it | reason |",
        "| --- | --- | --- |",
    ]
    for rule in RULES:
        path = rule.pattern if rule.action is Action.XATTR else "/" + rule.pattern
        link = f", if it is a link to `{rule.target.decode()}`" if rule.target else ""
        mode = f", mode {rule.mode:04o}" if rule.mode is not None else ""
        lines.append(f"| `{path}`{link} | {actions[rule.action]}{mode} | {rule.reason} |")
    return "\n".join(lines) + "\n"


def _schema(model: type[BaseModel], title: str) -> str:
    schema = model.model_json_schema(by_alias=True)
    told = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}
    return json.dumps(told, indent=2) + "\n"


def _comparison_rules() -> str:
    lines = [
        "# Rules of judgement",
        "",
        "Made from `builder/forensics/rules.yaml` and `builder/forensics/configuration_rules.py`; do not edit.",
        "",
        "## Files",
        "",
        "**The first rule that fits decides.** A rule fits if one of its paths does (every path, if it names none)",
        "and all that stands under *when* holds. In a path `*` is any part of one name, `/**` at the end",
        "everything below, `**/` at the beginning any directory. Of a file that moved, both places count. *Gained*",
        "is what a path has now and did not have; at another place, or as another kind of thing, everything is",
        "gained.",
        "",
        "A place where writes are expected (`runtime.writable` of the signed recipe, a volume of the image)",
        "excuses what a rule finds, but not where the last column says *always counts*, and never a set-uid or",
        "set-gid bit or a capability, whatever a rule says. What the container engine writes into every container",
        "is told apart before any rule is asked.",
        "",
        "Rules of one's own come before these: `--rules FILE` or `GOLDSMITH_COMPARISON_RULES` name a YAML file.",
        "",
        "```yaml",
        f"format: {RULES_FORMAT}",
        "rules:",
        "  - id: ours.uploads",
        "    severity: info            # info, low, medium, high, critical",
        "    where: [srv/app/uploads/**]",
        "    when:                     # all of these, as far as they are given",
        "      kinds: [added]          # " + ", ".join(Kind),
        "      types: [file]           # " + ", ".join(EntryType),
        "      # has, gained:            " + ", ".join(Power),
        "      # packaged: true          # whether a package installed the path",
        "    excusable: true           # whether an expected place excuses it",
        "    reason: Visitors put files here.",
        "```",
        "",
        "| rule | severity | where | when | what it means | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for rule in shipped_rules():
        where = "<br>".join(f"`/{path}`" if not path.startswith("**/") else f"`{path}`" for path in rule.where)
        when = "<br>".join(
            f"{name}: {_told(value)}" for name, value in rule.when.model_dump(exclude_defaults=True).items()
        )
        always = "" if rule.excusable else "always counts"
        lines.append(f"| `{rule.id}` | {rule.severity} | {where} | {when} | {rule.reason} | {always} |")
    lines += [
        "",
        "## Runtime configuration",
        "",
        "Against the image's own configuration, and the `runtime` section of the signed recipe. What is held",
        "tighter than the image asks for, and what an engine fills in by itself, is no finding.",
        "",
        "| rule | severity | what it means |",
        "| --- | --- | --- |",
        *(f"| `{name}` | {rule.severity} | {rule.reason} |" for name, rule in CONFIGURATION_RULES.items()),
    ]
    return "\n".join(lines) + "\n"


def _told(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return "yes" if value else "no"


def main() -> int:
    for name, text in pages().items():
        (DOCS / name).write_text(text)
        print(f"docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
