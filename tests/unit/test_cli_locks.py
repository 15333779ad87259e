"""`goldsmith recipe lock`: what is written, what is only told, and what is left as it was."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.errors import Fault, Rejected
from builder.planning.lock import LockedBase, LockedFile, LockedPackage
from builder.planning.lockfile import format_lock, parse_lock
from builder.store.states import RESOLVE
from tests.unit.cli_commands import command, environment, meanwhile, newest, playing, submitted
from tests.unit.cli_recipe import HELLO, NEWER, Mine, new_recipe
from tests.unit.cli_server import OTHER, Api, free_port, running_api
from tests.unit.locks import package

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api") / "state") as running:
        yield running


@pytest.fixture
def api(served: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Api:
    monkeypatch.chdir(tmp_path)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture
def mine(api: Api, tmp_path: Path) -> Mine:
    return new_recipe(api, tmp_path)


@pytest.fixture
def nobody(mine: Mine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No API answers: whatever works, works without one."""
    monkeypatch.setenv("GOLDSMITH_URL", f"http://127.0.0.1:{free_port()}")


class TestWriting:
    def test_a_lock_is_written_beside_the_file_one_package_a_line(self, mine: Mine, capsys: Output) -> None:
        packages = [package("hello"), package("libc6", "2.41-12", "3" * 64)]
        with mine.resolving(*packages):
            assert main(["recipe", "lock", mine.file]) == 0
        written = mine.beside.read_text()
        assert parse_lock(written.encode()) == mine.lock(*packages)
        for one in packages:
            assert [one.sha256 in line for line in written.splitlines()].count(True) == 1
        told = capsys.readouterr()
        assert told.out == f"{mine.beside}: 2 packages on trixie, bootstrapped from 1 package, 1 file\n"
        assert "mine/resolve: done" in told.err

    def test_a_lock_that_was_there_is_replaced_and_what_changes_is_said(self, mine: Mine, capsys: Output) -> None:
        mine.locked(HELLO)
        with mine.resolving(NEWER):
            assert main(["recipe", "lock", mine.file]) == 0
        assert parse_lock(mine.beside.read_bytes()) == mine.lock(NEWER)
        first, last = capsys.readouterr().out.splitlines()
        assert first == "~ hello 2.10-3 -> 2.10-5"
        assert last.startswith(f"{mine.beside}: 1 package on ")

    def test_another_file_is_written_with_o_and_the_one_beside_is_left(self, mine: Mine) -> None:
        before = mine.locked(HELLO)
        other = mine.directory / "other.json"
        with mine.resolving(NEWER):
            assert main(["recipe", "lock", mine.file, "-o", str(other)]) == 0
        assert parse_lock(other.read_bytes()) == mine.lock(NEWER)
        assert mine.beside.read_text() == before

    def test_one_that_cannot_be_read_is_overwritten(self, mine: Mine) -> None:
        mine.beside.write_text("<<<<<<< conflict\n")
        with mine.resolving(HELLO):
            assert main(["recipe", "lock", mine.file]) == 0
        assert parse_lock(mine.beside.read_bytes()) == mine.lock(HELLO)

    def test_for_machines_it_is_said_where_it_is_and_what_changed(self, mine: Mine, capsys: Output) -> None:
        with mine.resolving(HELLO):
            assert main(["recipe", "lock", mine.file, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"file": str(mine.beside), "digest": mine.lock(HELLO).digest}
        with mine.resolving(NEWER):
            assert main(["recipe", "lock", mine.file, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "file": str(mine.beside),
            "digest": mine.lock(NEWER).digest,
            "changed": True,
            "requested": False,
            "base": None,
            "packages": [{"name": "hello", "architecture": "amd64", "before": "2.10-3", "after": "2.10-5"}],
            "files": [],
        }

    @pytest.mark.parametrize(
        ("place", "why"),
        [(".", "it is a directory"), ("no/where.json", "there is no directory no"), ("motd/x", "no directory motd")],
    )
    def test_where_nothing_can_be_written_nothing_is_asked_for(
        self, mine: Mine, nobody: None, capsys: Output, place: str, why: str
    ) -> None:
        assert main(["recipe", "lock", mine.file, "-o", place]) == 1
        assert f"cannot write {place}: " in (err := capsys.readouterr().err)
        assert f"{why} (name another file with --output)" in err

    def test_a_full_disk_is_told(self, mine: Mine, capsys: Output) -> None:
        with mine.resolving(HELLO):
            assert main(["recipe", "lock", mine.file, "-o", "/dev/full"]) == 1
        assert "cannot write /dev/full: No space left on device" in capsys.readouterr().err


class TestOfAName:
    def test_it_is_printed_and_standard_output_holds_nothing_else(self, api: Api, mine: Mine, capsys: Output) -> None:
        lock = mine.lock(HELLO)
        for options in ([], ["--json"]):
            with playing(api, "web", lambda worker: worker.lock(lock)):
                assert main(["recipe", "lock", "web", *options]) == 0
            told = capsys.readouterr()
            assert told.out == format_lock(lock)
            assert "web/resolve: done" in told.err
        assert list(mine.directory.glob("*.lock.json")) == []

    def test_with_o_it_is_written(self, api: Api, mine: Mine, capsys: Output) -> None:
        lock = mine.lock(HELLO)
        with playing(api, "web", lambda worker: worker.lock(lock)):
            assert main(["recipe", "lock", "web", "-o", "web.lock.json"]) == 0
        assert parse_lock(Path("web.lock.json").read_bytes()) == lock
        assert capsys.readouterr().out.startswith("web.lock.json: 1 package on ")

    def test_it_is_compared_with_the_one_that_the_api_has(self, api: Api, mine: Mine, capsys: Output) -> None:
        beside = api.directory / "recipes" / "web.lock.json"
        assert main(["recipe", "lock", "web", "--check"]) == 1
        assert "the recipe 'web' has no lock (`goldsmith recipe lock web` makes one)" in capsys.readouterr().err
        beside.write_text(format_lock(mine.lock(HELLO)))
        try:
            for newer, code in ((HELLO, 0), (NEWER, 2)):
                lock = mine.lock(newer)
                with playing(api, "web", lambda worker, lock=lock: worker.lock(lock)):
                    assert main(["recipe", "lock", "web", "--check"]) == code
        finally:
            beside.unlink()
        unchanged, changed = capsys.readouterr().out.splitlines()
        assert unchanged.startswith("nothing would change")
        assert changed == "~ hello 2.10-3 -> 2.10-5"

    def test_nothing_in_it_can_act_on_the_terminal(self, api: Api, mine: Mine, capsys: Output) -> None:
        path = "/\x1b[2J\x7f\x9b2J\u202e\U0001f600é"
        lock = mine.lock(HELLO).model_copy(update={"files": (LockedFile(path=path, sha256="d" * 64),)})
        with playing(api, "web", lambda worker: worker.lock(lock)):
            assert main(["recipe", "lock", "web"]) == 0
        out = capsys.readouterr().out
        assert all(c == "\n" or " " <= c <= "~" for c in out)
        assert parse_lock(out.encode()) == lock


class TestCheck:
    def test_nothing_newer_is_0_and_something_newer_is_2_and_nothing_is_written(
        self, mine: Mine, capsys: Output
    ) -> None:
        before = mine.locked(HELLO)
        with mine.resolving(HELLO):
            assert main(["recipe", "lock", mine.file, "--check"]) == 0
        assert capsys.readouterr().out == "nothing would change: resolving gives what the lock has\n"
        with mine.resolving(NEWER):
            assert main(["recipe", "lock", mine.file, "--check"]) == 2
        assert capsys.readouterr().out == "~ hello 2.10-3 -> 2.10-5\n"
        assert mine.beside.read_text() == before

    def test_for_machines(self, mine: Mine, capsys: Output) -> None:
        mine.locked(HELLO)
        with mine.resolving(HELLO):
            assert main(["recipe", "lock", mine.file, "--check", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "changed": False, "requested": False, "base": None, "packages": [], "files": [],
        }  # fmt: skip

    @pytest.mark.parametrize("option", ["--check", "--diff", "--keep"])
    def test_without_a_lock_there_is_nothing_to_compare_with(
        self, mine: Mine, nobody: None, capsys: Output, option: str
    ) -> None:
        assert main(["recipe", "lock", mine.file, option]) == 1
        told = capsys.readouterr().err
        assert f"{mine.file} has no lock to compare with (`goldsmith recipe lock {mine.file}` makes one)" in told

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ('{"version": 1,\n oops}', "mine.lock.json: line 2, column 2: not JSON"),
            ('{"version": 1, "version": 1}', "mine.lock.json: the key 'version' stands twice"),
            ("[]", "mine.lock.json: input should be an object"),
            (None, "mine.lock.json: epoch: input should be a valid integer"),
        ],
    )
    @pytest.mark.parametrize("line", ["recipe lock FILE --check", "recipe lock FILE --keep", "build FILE"])
    def test_a_lock_that_cannot_be_read_is_told_with_its_line_or_field(
        self, mine: Mine, nobody: None, capsys: Output, line: str, content: str | None, told: str
    ) -> None:
        broken = content or mine.locked(HELLO).replace("1700000000", '"yesterday"')
        mine.beside.write_text(broken)
        assert main(line.replace("FILE", mine.file).split()) == 1
        err = capsys.readouterr().err
        assert told in err
        assert "`goldsmith recipe lock` writes it anew" in err
        assert mine.beside.read_text() == broken

    def test_of_several_fields_at_fault_each_is_told_and_in_which_file(self, mine: Mine, capsys: Output) -> None:
        mine.beside.write_text(mine.locked(NEWER).replace("1700000000", '"x"').replace('"2.10-5"', '"-"'))
        assert main(["build", mine.file]) == 1
        first, epoch, version, last = capsys.readouterr().err.splitlines()
        assert first == "goldsmith: The lock is not valid: mine.lock.json"
        assert epoch.startswith("  epoch: ")
        assert version.startswith("  packages.0.version: ")
        assert last == "  way out: `goldsmith recipe lock` writes it anew"


class TestDiff:
    @pytest.mark.parametrize(
        ("before", "after", "told"),
        [
            ([], [HELLO], "+ hello 2.10-3"),
            ([HELLO], [], "- hello 2.10-3"),
            ([HELLO], [NEWER], "~ hello 2.10-3 -> 2.10-5"),
            ([HELLO], [package("hello", "2.10-3", "9" * 64)], "! hello 2.10-3: the same version with other content"),
        ],
    )
    def test_each_change_of_a_package_is_a_line(
        self, mine: Mine, capsys: Output, before: list[LockedPackage], after: list[LockedPackage], told: str
    ) -> None:
        text = mine.locked(*before)
        with mine.resolving(*after):
            assert main(["recipe", "lock", mine.file, "--diff"]) == 0
        assert capsys.readouterr().out == f"{told}\n"
        assert mine.beside.read_text() == text

    def test_a_file_that_changed_and_a_recipe_that_asks_for_more(self, mine: Mine, capsys: Output) -> None:
        mine.locked(HELLO)
        (mine.directory / "motd").write_text("farewell\n")
        mine.change("[hello]", "[hello, tree]")
        with mine.resolving(HELLO, package("tree", "2.2.1-1")):
            assert main(["recipe", "lock", mine.file, "--diff"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "the recipe asks for something else than when it was locked",
            "+ tree 2.2.1-1",
            "file   /etc/motd",
        ]

    def test_another_base(self, mine: Mine, capsys: Output) -> None:
        mine.change("debian: {suite: trixie}", "image: registry.example/base@" + OTHER)
        newer = "registry.example/base@sha256:" + "0d" * 32
        before, after = (
            mine.lock(HELLO).model_copy(update={"base": LockedBase(suite="trixie", architecture="amd64", image=image)})
            for image in (f"registry.example/base@{OTHER}", newer)
        )
        mine.beside.write_text(format_lock(before))
        with playing(mine.api, "mine", lambda worker: worker.lock(after)):
            assert main(["recipe", "lock", mine.file, "--diff"]) == 0
        assert capsys.readouterr().out == f"base   registry.example/base@{OTHER} -> {newer}\n"

    def test_for_machines(self, mine: Mine, capsys: Output) -> None:
        mine.locked(HELLO)
        (mine.directory / "motd").write_text("farewell\n")
        with mine.resolving(package("tree", "2.2.1-1")):
            assert main(["recipe", "lock", mine.file, "--diff", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["changed"] is True
        assert told["files"] == ["/etc/motd"]
        assert [(one["name"], one["before"], one["after"]) for one in told["packages"]] == [
            ("hello", "2.10-3", None),
            ("tree", None, "2.2.1-1"),
        ]


class TestKeep:
    def test_it_renews_digests_of_files_without_asking_anybody(self, mine: Mine, nobody: None, capsys: Output) -> None:
        mine.locked(HELLO)
        (mine.directory / "motd").write_text("farewell\n")
        mine.change("source: motd}", "source: motd}, {path: /etc/issue, content: hi}")
        assert main(["recipe", "lock", mine.file, "--keep"]) == 0
        assert parse_lock(mine.beside.read_bytes()) == mine.lock(HELLO)
        assert capsys.readouterr().out.splitlines()[:2] == ["file   /etc/issue", "file   /etc/motd"]

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("[hello]", "[hello, tree]", "spec.packages[1]: the lock was made without 'tree'"),
            ("[hello]", "[]", "spec.packages: the lock was made with 'hello', which the recipe no longer asks for"),
            ("trixie", "forky", "spec.base: the lock was made for another base"),
        ],
    )
    def test_it_refuses_another_base_and_other_packages_by_their_fields(
        self, mine: Mine, capsys: Output, old: str, new: str, told: str
    ) -> None:
        before = mine.locked(HELLO)
        mine.change(old, new)
        assert main(["recipe", "lock", mine.file, "--keep"]) == 1
        err = capsys.readouterr().err
        assert told in err
        assert "`goldsmith recipe lock` renews it" in err
        assert mine.beside.read_text() == before


class TestNotResolved:
    def test_why_is_told_by_field_and_the_lock_that_is_there_is_left(self, mine: Mine, capsys: Output) -> None:
        before = mine.locked(HELLO)
        fault = Fault(message="there is no package 'hallo'", field="spec.packages[0]", hint="did you mean 'hello'?")
        problem = Rejected(str(fault), errors=[fault]).problem()
        with playing(mine.api, "mine", lambda worker: worker.fail(problem, RESOLVE)):
            assert main(["recipe", "lock", mine.file]) == 1
        told = capsys.readouterr()
        assert "spec.packages[0]: there is no package 'hallo' (did you mean 'hello'?)" in told.err
        assert told.out == ""
        assert mine.beside.read_text() == before

    def test_a_base_that_cannot_be_built_is_the_reason_that_is_told(self, tmp_path: Path, capsys: Output) -> None:
        with running_api(tmp_path / "state") as api:
            broken = Rejected("it broke").problem()
            with meanwhile(lambda: api.worker(api.newest("base")).fail(broken)):
                assert main(["recipe", "lock", "layered", "--url", api.url, "--key", api.key]) == 1
            base = api.newest("base")
        told = capsys.readouterr()
        assert told.out == ""
        assert f"layered waits for its base: build {base} of base" in told.err
        assert "base/packages: failed" in told.err
        assert "base/packages| E: no such package" in told.err
        assert f"the base 'base' was not released: build {base} is failed (see `goldsmith show {base}`)" in told.err

    def test_ctrl_c_writes_nothing_and_says_what_goes_on(self, mine: Mine) -> None:
        known = newest(mine.api, "mine")
        child = subprocess.Popen(
            command("recipe", "lock", mine.file),
            env=environment(mine.api), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        submitted(mine.api, "mine", known)
        assert child.stderr is not None
        assert "build" in child.stderr.readline()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
        assert child.returncode == 130
        assert out == ""
        assert f"goldsmith: the build goes on: `goldsmith logs --follow {newest(mine.api, 'mine')}` follows it" in err
        assert "Traceback" not in err
        assert not mine.beside.exists()
