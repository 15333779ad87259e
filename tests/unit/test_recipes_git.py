"""Recipes from a commit: a real Git server is asked, and what a hostile request or repository could want is refused."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import GoldsmithError
from builder.recipes import git as module
from builder.recipes.catalogue import NotBeside
from builder.recipes.document import RecipeInvalid
from builder.recipes.git import GitPlace, GitSourceRefused, GitSources, GitUnavailable, installed_git
from builder.recipes.reading import read_recipe
from tests.unit.api import RECIPE
from tests.unit.git_server import GitServer, git, git_server

FILES: dict[str, str | bytes] = {
    "images/web.yaml": RECIPE.replace("NAME", "web") + "  files: [{path: /etc/motd, source: data/motd}]\n",
    "images/data/motd": "hello\n",
    "images/data/big": b"x" * 200_000,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with git_server(tmp_path_factory.mktemp("git")) as found:
        where = found.repository("acme/images", FILES)
        (where / "images/link.yaml").symlink_to("/etc/passwd")
        (where / "images/up").symlink_to("../..")
        found.commit(where, {"images/lfs.yaml": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"})
        git(where, "tag", "v1")
        git(where, "branch", "side")
        yield found


@pytest.fixture
def sources(server: GitServer) -> GitSources:
    return GitSources((server.host,), private=True, seconds=20, max_bytes=1 << 20)


def place(server: GitServer, ref: str = "main", path: str = "images/web.yaml", name: str = "acme/images") -> GitPlace:
    return GitPlace(f"{server.url}/{name}", ref, path)


class TestWhatIsTaken:
    @pytest.mark.parametrize("ref", ["main", "HEAD", "v1", "refs/heads/side", "ID"])
    def test_the_commit_that_a_reference_names(self, server: GitServer, sources: GitSources, ref: str) -> None:
        head = git(server.root / "acme/images", "rev-parse", "HEAD")
        with sources.commit(place(server, head if ref == "ID" else ref)) as commit:
            assert commit.id == head
            recipe = commit.embed(read_recipe(commit.recipe_text("images/web.yaml")), "images/web.yaml")
            assert recipe.spec.files[0].content == "hello\n"

    def test_an_older_commit_as_it_was_then(self, server: GitServer, sources: GitSources) -> None:
        where = server.repository("acme/moving", FILES)
        old = git(where, "rev-parse", "HEAD")
        server.commit(where, {"images/data/motd": "new\n"})
        for ref, text in ((old, b"hello\n"), ("main", b"new\n")):
            with sources.commit(place(server, ref, name="acme/moving")) as commit:
                assert commit.read("images/data/motd", 100) == text

    def test_nothing_is_left_behind(
        self, server: GitServer, sources: GitSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with sources.commit(place(server)):
            assert list(tmp_path.iterdir())
        assert not list(tmp_path.iterdir())


class TestWhatIsNoPlainFile:
    @pytest.mark.parametrize(
        ("path", "why"),
        [("images/link.yaml", "a symbolic link"), ("images/lfs.yaml", "Git LFS"), ("images/none.yaml", "there is no")],
    )
    def test_is_no_recipe(self, server: GitServer, sources: GitSources, path: str, why: str) -> None:
        with sources.commit(place(server)) as commit, pytest.raises(GitSourceRefused, match=why) as told:
            commit.recipe_text(path)
        assert told.value.errors[0].field == "path"

    @pytest.mark.parametrize(
        ("source", "why"),
        [("data", "a directory"), ("data/big", "larger"), ("none", "there is no"), ("up/acme", "there is no")],
    )
    def test_is_no_file_beside_one(self, server: GitServer, sources: GitSources, source: str, why: str) -> None:
        text = RECIPE.replace("NAME", "web") + f"  files: [{{path: /b, source: {source}}}]\n"
        with sources.commit(place(server)) as commit, pytest.raises(GoldsmithError, match=why) as told:
            commit.embed(read_recipe(text), "images/web.yaml")
        assert told.value.errors[0].field == "spec.files[0].source"

    def test_is_no_submodule(self, server: GitServer, sources: GitSources) -> None:
        where = server.repository("acme/modules", FILES)
        git(where, "update-index", "--add", "--cacheinfo", f"160000,{'5c' * 20},module")
        git(where, "commit", "--quiet", "--message=m")
        wanted = place(server, name="acme/modules")
        with sources.commit(wanted) as commit, pytest.raises(NotBeside, match="a submodule"):
            commit.read("module", 100)


@pytest.mark.parametrize(
    ("ref", "path", "field"),
    [
        ("none", "images/web.yaml", "ref"),
        ("5c" * 20, "images/web.yaml", "ref"),
        *[(ref, "images/web.yaml", "ref") for ref in (
            "--upload-pack=touch /tmp/x", "-f", "main:refs/heads/x", "+main", "a..b", "a b", "main~1", "main^", "@{1}",
            "*", "", "a/", "x.lock", "a//b", "\nmain", "refs/heads/*",
            "refs/pull/1/head", "pull/1/head", "refs/merge-requests/1/head", "merge-requests/1/head",
            "Refs/Pull/1/head",
        )],
        *[("main", path, "path") for path in (
            "../web.yaml", "/etc/x.yaml", "a/../../x.yaml", "images/web", "-x.yaml", "a//b.yaml", "./a.yaml",
            "a\n.yaml",
            ":(top)a.yaml", "a\0.yaml",
        )],
    ],
)  # fmt: skip
def test_a_name_that_git_could_take_for_more_is_refused(
    server: GitServer, sources: GitSources, ref: str, path: str, field: str
) -> None:
    with pytest.raises(GitSourceRefused) as told, sources.commit(place(server, ref, path)):
        pass
    assert told.value.errors[0].field == field


@pytest.mark.parametrize(
    "repository",
    [
        "ext::sh -c 'touch /tmp/x'", "file:///etc", "/etc", "ssh://HOST/acme/images", "git://HOST/acme/images",
        "git@HOST:acme/images", "http://user:secret@HOST/acme/images", "http://HOST/acme/images?x=1",
        "http://HOST/acme/images#x", "http://HOST/../etc", "http://HOST", "http://HOST/", "--upload-pack=x",
        "http://HOST/a b", "http://127.0.0.1:1/acme/images", "http://localhost/acme", "http://HOST@evil.example/x",
        "http://evil.example\\@HOST/x", "http://[::1]/x", "http://HOST:99999999/x", "https://", "",
    ],
)  # fmt: skip
def test_another_address_is_refused_and_not_asked(server: GitServer, sources: GitSources, repository: str) -> None:
    before = list(server.asked)
    wanted = GitPlace(repository.replace("HOST", server.host), "main", "images/web.yaml")
    with pytest.raises(GitSourceRefused) as told, sources.commit(wanted):
        pass
    assert told.value.errors[0].field == "repository"
    assert "secret" not in str(told.value)
    assert server.asked == before


class TestTheHost:
    def test_none_is_allowed_until_the_operator_says_so(self, server: GitServer) -> None:
        closed = GitSources((), private=True, seconds=20, max_bytes=1 << 20)
        with (
            pytest.raises(GitSourceRefused, match=r"not allowed here; no host is .*GOLDSMITH_GIT_HOSTS"),
            closed.commit(place(server)),
        ):
            pass

    def test_plain_http_and_private_addresses_only_where_they_are_allowed(self, server: GitServer) -> None:
        strict = GitSources((server.host, "localhost"), private=False, seconds=20, max_bytes=1 << 20)
        with pytest.raises(GitSourceRefused, match="must be an https URL"), strict.commit(place(server)):
            pass
        hidden = GitPlace("https://localhost/acme/images", "main", "a.yaml")
        with pytest.raises(GitSourceRefused, match="no public address"), strict.commit(hidden):
            pass

    def test_git_goes_to_the_address_that_was_looked_at(
        self, server: GitServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = server.host.rpartition(":")[2]
        named = GitSources((f"git.example:{port}",), private=True, seconds=20, max_bytes=1 << 20)
        monkeypatch.setattr("builder.recipes.git.addresses_of", lambda host, port: ["127.0.0.1"])
        with named.commit(GitPlace(f"http://git.example:{port}/acme/images", "main", "images/web.yaml")) as commit:
            assert commit.read("images/data/motd", 100) == b"hello\n"

    def test_a_proxy_of_the_environment_is_not_asked(
        self, server: GitServer, sources: GitSources, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.delenv("no_proxy", raising=False)
        with sources.commit(place(server)) as commit:
            assert commit.id

    def test_a_redirect_is_not_followed(self, server: GitServer, sources: GitSources, tmp_path: Path) -> None:
        with git_server(tmp_path) as front:
            front.elsewhere = server.url
            asks = GitSources((front.host, server.host), private=True, seconds=20, max_bytes=1 << 20)
            before = list(server.asked)
            with pytest.raises(GitSourceRefused, match="leads elsewhere"), asks.commit(place(front)):
                pass
            assert server.asked == before

    def test_one_that_is_away_is_worth_another_try(self, server: GitServer) -> None:
        away = GitSources(("127.0.0.1:1",), private=True, seconds=5, max_bytes=1 << 20)
        with pytest.raises(GitUnavailable), away.commit(GitPlace("http://127.0.0.1:1/a", "main", "a.yaml")):
            pass


def test_a_repository_that_is_not_there(server: GitServer, sources: GitSources) -> None:
    with pytest.raises(GitSourceRefused, match="is not there") as told, sources.commit(place(server, name="none")):
        pass
    assert told.value.errors[0].field == "repository"


def test_one_that_is_too_large(server: GitServer, sources: GitSources) -> None:
    server.repository("acme/large", {"images/web.yaml": "x", "large": os.urandom(3 << 20)})
    wanted = place(server, name="acme/large")
    with pytest.raises(GitSourceRefused, match="larger than 1048576 bytes"), sources.commit(wanted):
        pass


def test_one_that_is_too_slow(server: GitServer) -> None:
    hasty = GitSources((server.host,), private=True, seconds=0.001, max_bytes=1 << 20)
    with pytest.raises(GitUnavailable, match="not fetched within"), hasty.commit(place(server)):
        pass


class TestManyFiles:
    RECIPE = RECIPE.replace("NAME", "web")

    def listed(self, number: int) -> str:
        return self.RECIPE + "  files:\n" + "".join(f"  - {{path: /{i}, source: large}}\n" for i in range(number))

    def test_are_bounded_together_and_each_is_read_once(
        self, server: GitServer, sources: GitSources, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.repository("acme/many", {"web.yaml": self.listed(100), "large": os.urandom(100_000)})
        asked = []
        real = module._git

        def counting(objects: Path, *arguments: str, **named: Any) -> bytes:
            asked.append(arguments)
            return real(objects, *arguments, **named)

        with sources.commit(place(server, path="web.yaml", name="acme/many")) as commit:
            monkeypatch.setattr(module, "_git", counting)
            with pytest.raises(RecipeInvalid, match="together larger than 8388608 bytes") as told:
                commit.embed(read_recipe(commit.recipe_text("web.yaml")), "web.yaml")
            assert told.value.errors[0].field == "spec.files[62]"
            assert len(asked) == 4
            asked.clear()
            few = commit.embed(read_recipe(self.listed(20)), "web.yaml")
            assert len({file.content_base64 for file in few.spec.files}) == 1

    def test_have_the_time_of_one_commit(
        self, server: GitServer, sources: GitSources, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with sources.commit(place(server)) as commit:
            now = time.monotonic() + 20
            monkeypatch.setattr("builder.recipes.git.time.monotonic", lambda: now)
            with pytest.raises(GitUnavailable, match="not read in time"):
                commit._ask("cat-file", "--batch-all-objects", "--batch-check")


class TestTheProgram:
    @pytest.fixture(autouse=True)
    def _asked_anew(self) -> Iterator[None]:
        installed_git.cache_clear()
        yield
        installed_git.cache_clear()

    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None) -> None:
        if says is not None:
            (tmp_path / "git").write_text(f"#!/bin/sh\necho '{says}'\n")
            (tmp_path / "git").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    @pytest.mark.parametrize("version", ["2.37.0", "2.39.5", "2.50.1.windows.1", "3.0.0-rc1"])
    def test_that_can_be_held_to_an_address(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
    ) -> None:
        self.installed(tmp_path, monkeypatch, f"git version {version}")
        assert version.startswith(installed_git())

    @pytest.mark.parametrize("says", ["git version 2.36.9", "git version 1.99.0", "something else", None])
    def test_that_cannot_be_is_not_used(
        self, server: GitServer, sources: GitSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None
    ) -> None:
        self.installed(tmp_path, monkeypatch, says)
        with pytest.raises(GitUnavailable, match=says or "not installed") as told, sources.commit(place(server)):
            pass
        assert "2.37" in str(told.value)
