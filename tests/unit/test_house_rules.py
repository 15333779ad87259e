"""The rules of the house, held by reading the code: who may import whom, and one door to programs, one to settings."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import builder
import workers
from builder.errors import Broken, GoldsmithError, Rejected, Unavailable

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("builder/**/*.py"), *ROOT.glob("workers/**/*.py")])
EVERYTHING = [*SOURCES, *sorted(ROOT.glob("scripts/**/*.py")), *sorted(ROOT.glob("tests/**/*.py"))]

FOUNDATION = {"errors", "process", "locking", "private", "tracing"}
OUTSIDE = {"api", "cli", "client", "sandbox"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules that a file imports, whole names, wherever in the file."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str:
    """`engine` for builder/engine/docker.py, `errors` for builder/errors.py, `workers` for workers/app.py."""
    first, *rest = path.relative_to(ROOT).with_suffix("").parts
    return rest[0] if first == "builder" and rest else first


def parts_imported(path: Path) -> set[str]:
    own = {name.split(".")[1] for name in imports(path) if name.startswith("builder.")}
    return own | {"workers" for name in imports(path) if name.split(".")[0] == "workers"}


def offenders(*, allowed: set[str], where: set[str], modules: set[str]) -> list[str]:
    return [
        f"{name_of(path)} imports {module}"
        for path in SOURCES
        if part_of(path) not in allowed and (not where or part_of(path) in where)
        for module in sorted({name.split(".")[0] for name in imports(path)} & modules)
    ]


class TestImports:
    def test_the_foundation_stands_on_its_own(self) -> None:
        for path in SOURCES:
            if part_of(path) in FOUNDATION:
                assert parts_imported(path) <= FOUNDATION, name_of(path)
            if part_of(path) in {"store", "settings"}:
                assert parts_imported(path) <= FOUNDATION | {part_of(path), "__version__"}, name_of(path)

    def test_the_domain_does_not_know_who_uses_it(self) -> None:
        for path in SOURCES:
            if part_of(path) in OUTSIDE | {"workers"}:
                continue
            # The signer must know a sandbox's certificates when it sees them.
            marking = (
                {"sandbox"} if part_of(path) == "signing" and "builder.sandbox.marking" in imports(path) else set()
            )
            assert not parts_imported(path) & (OUTSIDE | {"workers"}) - marking, name_of(path)
            assert not [name for name in imports(path) if name.startswith("builder.sandbox.") and not
                        name.startswith("builder.sandbox.marking")], name_of(path)  # fmt: skip

    def test_those_outside_do_not_know_each_other_but_the_command_line_its_client(self) -> None:
        may = {"cli": {"cli", "client", "sandbox"}, "client": {"client"}, "api": {"api"}, "sandbox": {"sandbox"}}
        for path in SOURCES:
            if part_of(path) in may:
                known = parts_imported(path) & (OUTSIDE | {"workers"})
                assert known <= may[part_of(path)], name_of(path)

    def test_web_frameworks_are_for_servers(self) -> None:
        modules = {"fastapi", "starlette", "uvicorn"}
        assert offenders(allowed={"api", "sandbox"}, where=set(), modules=modules) == []

    def test_celery_is_for_workers(self) -> None:
        assert offenders(allowed={"workers"}, where=set(), modules={"celery", "kombu"}) == []

    def test_terminals_are_for_the_command_line(self) -> None:
        assert offenders(allowed={"cli"}, where=set(), modules={"typer", "rich", "click"}) == []

    def test_the_engine_and_the_database_each_have_one_home(self) -> None:
        assert offenders(allowed={"engine", "forensics", "cli"}, where=set(), modules={"docker"}) == []
        users = {"store", "pipeline", "ledger", "api", "cli"}
        assert offenders(allowed=users, where=set(), modules={"sqlalchemy", "alembic"}) == []

    def test_settings_are_for_who_puts_things_together(self) -> None:
        found = [name_of(path) for path in SOURCES if "settings" in parts_imported(path)]
        allowed = ("builder/api/", "builder/cli/", "builder/pipeline/services.py", "workers/")
        assert [name for name in found if not name.startswith(allowed)] == []

    def test_one_door_leads_to_programs(self) -> None:
        doors = {"subprocess", "pty", "multiprocessing"}
        found = [name_of(path) for path in SOURCES if {name.split(".")[0] for name in imports(path)} & doors]
        assert found == ["builder/process.py"]
        calls = re.compile(r"\bos\.(system|popen|spawn\w*|exec\w*|fork\w*|posix_spawn\w*)\b")
        assert [name_of(path) for path in SOURCES if calls.search(path.read_text("utf-8"))] == []


def test_one_door_leads_to_the_environment() -> None:
    reads = re.compile(r"\bos\.(environ|getenv|putenv)\b|\bfrom os import .*\b(environ|getenv)\b")
    found = [name_of(path) for path in SOURCES if reads.search(path.read_text("utf-8"))]
    allowed = ("builder/settings.py", "builder/process.py", "builder/cli/", "builder/client/")
    assert [name for name in found if not name.startswith(allowed)] == []


def test_only_the_command_line_prints() -> None:
    def prints(path: Path) -> bool:
        return any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            for node in ast.walk(tree(path))
        )

    assert [name_of(path) for path in SOURCES if part_of(path) != "cli" and prints(path)] == []


def test_files_are_short() -> None:
    limit = 400
    long = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in long.items() if lines > limit} == {}


def test_a_name_says_what_a_thing_is() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "base_utils"}
    assert [name_of(path) for path in EVERYTHING if {path.stem, path.parent.name} & empty] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [name_of(path) for path in SOURCES if not (ast.get_docstring(tree(path)) or "").strip(".").strip()]
    assert [name for name in silent if "migrations/versions" not in name] == []
    assert [name_of(path) for path in SOURCES if (ast.get_docstring(tree(path)) or "").startswith("TODO")] == []


@pytest.fixture(scope="module")
def kinds() -> list[type[GoldsmithError]]:
    for package in (builder, workers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    return [kind for kind in subclasses(GoldsmithError) if kind.__module__.split(".")[0] in ("builder", "workers")]


class TestErrors:
    def test_each_has_a_slug_and_a_title_of_its_own(self, kinds: list[type[GoldsmithError]]) -> None:
        assert len(kinds) > 80
        own = [kind for kind in kinds if kind is not Broken]  # Broken is what the root says: an internal error
        assert [kind.__qualname__ for kind in own if not {"slug", "title"} <= set(vars(kind))] == []
        slugs = Counter(kind.slug for kind in own)
        assert [slug for slug, number in slugs.items() if number > 1] == []
        assert [slug for slug in slugs if not re.fullmatch(r"[a-z]+(-[a-z]+)*", slug)] == []

    def test_each_belongs_to_one_family_and_has_a_status_that_fits(self, kinds: list[type[GoldsmithError]]) -> None:
        for kind in kinds:
            families = [family for family in (Rejected, Unavailable, Broken) if issubclass(kind, family)]
            assert len(families) <= 1, kind
            if families == [Rejected]:
                assert 400 <= kind.status < 500, kind
            assert not kind.retryable or issubclass(kind, Unavailable) or not families, kind

    def test_each_title_is_a_sentence_for_a_person(self, kinds: list[type[GoldsmithError]]) -> None:
        titles = {kind.slug: kind.title for kind in kinds}
        assert [t for t in titles.values() if not t[0].isupper() or t.endswith(".") or len(t) > 80] == []
        assert len(set(titles.values())) == len(titles)


def subclasses(kind: type[GoldsmithError]) -> Iterator[type[GoldsmithError]]:
    for found in kind.__subclasses__():
        yield found
        yield from subclasses(found)


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """Every tracked file that is text, by its name."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    found = {}
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:
                found[name] = data.decode("utf-8")
    assert len(found) > 200
    return found


class TestTexts:
    # Put together here, so that this file does not break its own rule.
    @pytest.mark.parametrize(
        "parts",
        [("deb.", "debian.org"), ("security.", "debian.org"), ("ftp.", "debian.org"), ("snapshot.", "debian.org"),
         ("py", "pi.org"), ("python", "hosted.org"), ("registry.npm", "js.org"), ("proxy.go", "lang.org")],
    )  # fmt: skip
    def test_no_registry_and_no_mirror_is_named(self, tracked: dict[str, str], parts: tuple[str, str]) -> None:
        assert [name for name, text in tracked.items() if "".join(parts) in text] == []

    def test_no_path_of_a_machine_is_named(self, tracked: dict[str, str]) -> None:
        paths = re.compile(r"(?<![\w.-])/(work/|home/\w|Users/\w|root/\.)")
        own = name_of(Path(__file__))
        found = [name for name, text in tracked.items() if name != own and paths.search(text)]
        assert found == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_row_is_locked_in_a_read(path: Path) -> None:
    """A read is one snapshot, and PostgreSQL refuses to lock what has changed since: a heartbeat is enough."""
    locking = {"held_build", "hold", "running_build_of", "with_for_update"}
    for block in ast.walk(tree(path)):
        if not isinstance(block, ast.With) or not any(
            ast.unparse(one).split(" as ")[0].endswith("database.read()") for one in block.items
        ):
            continue
        calls = [node for node in ast.walk(block) if isinstance(node, ast.Call)]
        assert locking.isdisjoint(ast.unparse(one.func).split(".")[-1] for one in calls), (
            f"{name_of(path)}:{block.lineno}"
        )
        assert "lock" not in {word.arg for one in calls for word in one.keywords}, f"{name_of(path)}:{block.lineno}"
