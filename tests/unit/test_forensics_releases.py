"""Two releases: each difference is told once, where a reader looks for it, and nothing unknown is told as nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.cli.differences import diff_text
from builder.errors import GoldsmithError
from builder.forensics.diff import Diff, PackageChange, ScanTold, Verdict
from builder.forensics.diff_markdown import markdown_text
from builder.forensics.releases import Release, diff_releases
from builder.forensics.report import VerifiedBy
from builder.forensics.scans import Scan
from builder.image.digests import digest_of_file
from builder.image.entry import Entry, EntryType, canonical_key
from builder.image.inventory import Package, write_inventory
from builder.planning.versions import version_key
from builder.scanning.findings import Severity, Vulnerability

SCHEMA = Path(__file__).parents[2] / "docs" / "diff.schema.json"
SIGNED = VerifiedBy(
    identity="https://signer", issuer="https://issuer", trust="a file", trust_from_server=False, sandbox=False
)
CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "Env": ["PATH=/bin", "MODE=old"],
        "Cmd": ["/bin/serve", "--port", "80"],
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"org.example": "x"},
        "User": "65532",
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
}
RECIPE = {"kind": "Recipe", "spec": {"packages": ["bash", "curl"], "policy": {"max": "low"}}}
Tree = Mapping[Entry, Package | None]


def file(path: str, content: str = "a", mode: int = 0o644) -> Entry:
    return Entry(path.encode(), EntryType.FILE, mode, 0, 0, size=1, sha256=content * 64)


TREE: Tree = {
    file("bin/bash", "b"): Package("bash", "5.2.1-1"),
    file("bin/curl", "c"): Package("curl", "8.1-1"),
    file("etc/bash.rc", "d"): Package("bash", "5.2.1-1"),
    file("etc/ours", "e"): None,
    file("srv/data", "f"): None,
}


def vulnerability(name: str, package: str, severity: Severity = Severity.LOW) -> Vulnerability:
    return Vulnerability(id=name, package=package, installed="1", severity=severity, status="affected", target="x")


def scan(*found: Vulnerability, signed: bool = True, day: int = 1) -> Scan:
    updated = datetime(2026, 1, day, tzinfo=UTC)
    return Scan(found, ScanTold(digest="sha256:" + "9" * 64, signed=signed, database_updated=updated))


class Releases:
    """Makes releases, their inventories in files of one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.count = directory, 0

    def __call__(self, tree: Tree = TREE, **changed: Any) -> Release:
        self.count += 1
        path = self.directory / str(self.count)
        entries = sorted(tree, key=lambda entry: canonical_key(entry.path))
        write_inventory(entries, path, owner=lambda entry: tree[entry])
        release = Release(
            image=f"registry.example/app:{self.count}",
            digest="sha256:" + f"{self.count:064x}",
            inventory=path,
            inventory_digest=digest_of_file(path),
            verified=SIGNED,
            recipe=RECIPE,
            configuration=CONFIG,
            scan=scan(),
        )
        return replace(release, **changed)


@pytest.fixture
def release(tmp_path: Path) -> Releases:
    return Releases(tmp_path)


def without(tree: Tree, *paths: str) -> dict[Entry, Package | None]:
    return {entry: package for entry, package in tree.items() if entry.path.decode() not in paths}


def files(told: Diff) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.path, one.kinds) for one in told.files]


def members(told: Sequence[Any] | None) -> list[tuple[str, str | None, str | None]]:
    return [(one.member, one.before, one.after) for one in told or ()]


def test_the_same_release_twice_is_identical(release: Releases) -> None:
    told = diff_releases(release(), release())
    assert (told.verdict, told.complete, told.differs) == (Verdict.IDENTICAL, True, False)
    assert told.headline == "nothing differs"


def test_an_upgraded_package_has_its_paths_and_no_others(release: Releases) -> None:
    newer = Package("bash", "5.2.10-1")
    after = {
        **without(TREE, "bin/bash", "etc/bash.rc", "etc/ours"),
        file("bin/bash", "0"): newer,
        file("etc/bash.rc", "d"): newer,
        file("usr/share/new", "1"): newer,
        file("etc/ours", "2"): None,
    }
    told = diff_releases(release(), release(after))
    (bash,) = told.packages
    assert (bash.name, bash.change, bash.before, bash.after) == (
        "bash", PackageChange.UPGRADED, ("5.2.1-1",), ("5.2.10-1",),
    )  # fmt: skip
    assert [(one.path, one.kinds, one.package) for one in bash.files] == [
        ("/bin/bash", ("content",), "bash=5.2.10-1"),
        ("/usr/share/new", ("added",), "bash=5.2.10-1"),
    ]
    assert (bash.paths, bash.by_kind) == (2, {"added": 1, "content": 1})
    assert files(told) == [("/etc/ours", ("content",))]
    assert "~ bash 5.2.1-1 -> 5.2.10-1" in diff_text(told)


def test_packages_that_come_go_and_go_back_are_told_apart(release: Releases) -> None:
    after = {
        **without(TREE, "bin/bash", "etc/bash.rc", "bin/curl"),
        file("bin/bash", "b"): Package("bash", "5.2~rc1-1"),
        file("etc/bash.rc", "d"): Package("bash", "5.2~rc1-1"),
        file("bin/tree", "7"): Package("tree", "2.2-1"),
    }
    told = diff_releases(release(), release(after))
    assert [(str(one), one.change, one.paths) for one in told.packages] == [
        ("~ bash 5.2.1-1 -> 5.2~rc1-1", PackageChange.DOWNGRADED, 0),
        ("- curl 8.1-1", PackageChange.REMOVED, 1),
        ("+ tree 2.2-1", PackageChange.ADDED, 1),
    ]
    assert told.files == ()


def test_a_changed_path_of_a_package_that_did_not_change_stands_by_itself(release: Releases) -> None:
    after = {**without(TREE, "bin/curl"), file("bin/curl", "0"): Package("curl", "8.1-1")}
    told = diff_releases(release(), release(after))
    assert told.packages == ()
    assert [(one.path, one.package) for one in told.files] == [("/bin/curl", "curl=8.1-1")]


def test_a_moved_file_is_one_difference(release: Releases) -> None:
    told = diff_releases(release(), release({**without(TREE, "srv/data"), file("opt/data", "f"): None}))
    assert [(one.path, one.kinds, one.moved_from) for one in told.files] == [("/opt/data", ("moved",), "/srv/data")]
    assert told.headline == "1 other path"


def test_the_configuration_is_compared_member_by_member_and_without_the_layers(release: Releases) -> None:
    after = json.loads(json.dumps(CONFIG))
    after["rootfs"]["diff_ids"] = ["sha256:" + "2" * 64]
    after["config"] |= {
        "Env": ["PATH=/bin", "MODE=new", "EXTRA=1"],
        "Cmd": ["/bin/serve", "--port", "8080"],
        "ExposedPorts": {"8080/tcp": {}},
        "Volumes": {"/data": {}},
        "Entrypoint": ["/init"],
    }
    del after["config"]["User"]
    told = diff_releases(release(), release(configuration=after))
    assert members(told.configuration) == [
        ("config.Cmd", '["/bin/serve", "--port", "80"]', '["/bin/serve", "--port", "8080"]'),
        ("config.Entrypoint", None, '["/init"]'),
        ("config.Env.EXTRA", None, "1"),
        ("config.Env.MODE", "old", "new"),
        ("config.ExposedPorts.80/tcp", "{}", None),
        ("config.ExposedPorts.8080/tcp", None, "{}"),
        ("config.User", "65532", None),
        ("config.Volumes./data", None, "{}"),
    ]
    assert told.verdict is Verdict.DIFFERENT


def test_the_recipe_says_which_of_its_members_changed(release: Releases) -> None:
    after = {"kind": "Recipe", "spec": {"packages": ["curl", "tree"], "policy": {"max": "medium"}}}
    told = diff_releases(release(), release(recipe=after))
    assert members(told.recipe) == [
        ("spec.packages", "bash", None),
        ("spec.packages", None, "tree"),
        ("spec.policy.max", "low", "medium"),
    ]


def test_findings_are_new_gone_or_still_there(release: Releases) -> None:
    stays, goes, comes = (vulnerability(name, "bash") for name in ("CVE-1", "CVE-2", "CVE-3"))
    worse = vulnerability("CVE-4", "curl", Severity.CRITICAL)
    after = scan(stays.model_copy(update={"installed": "2"}), comes, worse)
    told = diff_releases(release(scan=scan(stays, goes)), release(scan=after))
    assert told.findings is not None
    assert [one.id for one in told.findings.new] == ["CVE-4", "CVE-3"]
    assert [one.id for one in told.findings.gone] == ["CVE-2"]
    assert [(one.id, one.before and one.before.installed, one.after and one.after.installed)
            for one in told.findings.remaining] == [("CVE-1", "1", "2")]  # fmt: skip
    assert told.headline == "2 new findings, 1 finding gone"


def test_a_vulnerability_that_stays_is_no_difference(release: Releases) -> None:
    told = diff_releases(*(release(scan=scan(vulnerability("CVE-1", "bash"))) for _ in range(2)))
    assert told.verdict is Verdict.IDENTICAL


def test_findings_that_could_not_be_had_are_undetermined_and_never_none(release: Releases) -> None:
    told = diff_releases(release(scan=scan(vulnerability("CVE-1", "bash"))), release(scan="no report is kept"))
    assert (told.findings, told.verdict, told.complete) == (None, Verdict.NO_DIFFERENCE_SEEN, False)
    assert told.undetermined == ("the findings: no report is kept",)
    for text in (diff_text(told), markdown_text(told)):
        assert "no report is kept" in text
        assert "nothing differs" not in text
    assert "UNDETERMINED" in diff_text(told)


def test_a_configuration_that_could_not_be_had_is_undetermined(release: Releases) -> None:
    told = diff_releases(release(), release(configuration=None))
    assert (told.configuration, told.verdict) == (None, Verdict.NO_DIFFERENCE_SEEN)
    assert "the configuration" in told.undetermined[0]


def test_a_report_that_is_not_signed_and_databases_of_two_days_are_told(release: Releases) -> None:
    told = diff_releases(release(), release(scan=scan(signed=False, day=2)))
    assert any("NOT signed" in note for note in told.notes)
    assert any("different dates" in note for note in told.notes)
    assert "NOT signed" in diff_text(told)


def test_no_more_paths_are_listed_than_asked_for_and_those_of_no_package_come_first(release: Releases) -> None:
    many = {file(f"usr/{n:03}", "1"): Package("big", "1") for n in range(50)}
    told = diff_releases(release(), release({**TREE, **many, file("zzz", "2"): None}), keep=10)
    assert files(told) == [("/zzz", ("added",))]
    (big,) = told.packages
    assert (big.paths, len(big.files)) == (50, 9)


def test_the_document_is_as_its_schema_says_and_survives_any_name(release: Releases) -> None:
    nasty = Entry(b"x|<b>\x1b[2J\n`", EntryType.FILE, 0o644, 0, 0, size=1, sha256="3" * 64)
    raw = Entry(b"srv/\xff", EntryType.FILE, 0o644, 0, 0, size=1, sha256="4" * 64)
    told = diff_releases(release(scan=scan(vulnerability("CVE-1", "x"))), release({**TREE, nasty: None, raw: None}))
    jsonschema.validate(json.loads(told.json_text()), json.loads(SCHEMA.read_text()))
    assert told.files[-1].path_base64 is not None
    for text in (told.json_text(), markdown_text(told), diff_text(told)):
        assert "\x1b" not in text
    assert "| `` /x\\|<b>\\x1b[2J\\n` `` |" in markdown_text(told)


def test_an_inventory_that_lies_about_its_root_ends_the_comparison(release: Releases) -> None:
    bad = release()
    bad.inventory.write_bytes(bad.inventory.read_bytes()[:-5])
    with pytest.raises(GoldsmithError):
        diff_releases(release(), bad)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0", "1.1"), ("1.9", "1.10"), ("1.0~rc1", "1.0"), ("9.0", "1:1.0"), ("1.0-1", "1.0-1+deb13u1"),
        ("1.0-1~bpo", "1.0-1"), ("1.0", "1.0a"), ("1.0a", "1.0+b"), ("1.0-1", "1.0-1.1"), ("2.2.1-1", "2.10.0-1"),
    ],
)  # fmt: skip
def test_debian_versions_are_in_the_order_that_dpkg_has(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.0-0"), ("1.0", "0:1.0"), ("1.01", "1.1")])
def test_versions_that_differ_in_nothing_that_counts_are_equal(one: str, other: str) -> None:
    assert version_key(one) == version_key(other)


_PACKAGES = st.sampled_from([None, Package("a", "1"), Package("a", "2"), Package("b", "1"), Package("b", "1~x")])
_TREES = st.dictionaries(
    st.builds(
        file,
        st.sampled_from(["a", "b", "bin/a", "bin/b", "etc/c", "z"]),
        st.sampled_from("abc"),
        st.sampled_from([0o644, 0o755]),
    ),
    _PACKAGES,
    max_size=6,
).map(lambda tree: {entry: package for entry, package in tree.items() if entry in _first_of_each_path(tree)})
_SCANS = st.lists(st.builds(vulnerability, st.sampled_from("XYZ"), st.sampled_from("ab")), max_size=4).map(
    lambda found: scan(*found)
)
_CONFIGS = st.fixed_dictionaries(
    {"config": st.dictionaries(st.sampled_from(["User", "Cmd", "Labels"]), st.sampled_from(["x", None, {"k": "v"}]))}
)


def _first_of_each_path(tree: Tree) -> set[Entry]:
    return set({entry.path: entry for entry in tree}.values())


@given(_TREES, _TREES, _SCANS, _SCANS, _CONFIGS, _CONFIGS)
def test_nothing_differs_from_itself_and_each_way_mirrors_the_other(
    a: Tree, b: Tree, scan_a: Scan, scan_b: Scan, config_a: dict[str, Any], config_b: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        made = Releases(Path(directory))
        first, second = made(a, scan=scan_a, configuration=config_a), made(b, scan=scan_b, configuration=config_b)
        assert diff_releases(first, first).verdict is Verdict.IDENTICAL
        there, back = diff_releases(first, second), diff_releases(second, first)
    assert there.differs is back.differs
    assert [(one.name, one.before, one.after) for one in there.packages] == [
        (one.name, one.after, one.before) for one in back.packages
    ]
    assert _paths(there) == _mirrored(_paths(back))
    assert members(there.configuration) == [(name, new, old) for name, old, new in members(back.configuration)]
    assert there.findings is not None
    assert back.findings is not None
    assert {one.id + one.package for one in there.findings.new} == {one.id + one.package for one in back.findings.gone}


def _paths(told: Diff) -> set[tuple[str, str]]:
    """Each listed path by what became of it; of a move, where it went and came from."""
    listed = (*told.files, *(one for package in told.packages for one in package.files))
    return {(one.moved_from or one.path, one.path if "removed" not in one.kinds else "gone")
            if "added" not in one.kinds else ("new", one.path) for one in listed}  # fmt: skip


def _mirrored(paths: set[tuple[str, str]]) -> set[tuple[str, str]]:
    names = {"new": "gone", "gone": "new"}
    return {(names.get(after, after), names.get(before, before)) for before, after in paths}
