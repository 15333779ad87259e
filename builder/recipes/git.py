"""Recipes from a commit of a Git repository, fetched as a stranger may: no checkout, no hooks, no second host.

A repository is somebody else's word. Its host must be on the operator's list; its name is looked up once, every address
must be a public one, and Git is held to the address that was looked at. Of what it holds only plain files are read,
from the object store, by a commit's id.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from builder.addresses import addresses_of, is_public
from builder.errors import Fault, ProgramFailed, ProgramMissing, ProgramTimedOut, Rejected, Unavailable
from builder.process import run
from builder.recipes.catalogue import MAX_FILE_BYTES, NotBeside, embed_sources
from builder.recipes.document import MAX_BYTES
from builder.recipes.model import Recipe

_REPOSITORY = re.compile(r"/[A-Za-z0-9._~/+@-]{1,500}", re.ASCII)
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
# git-check-ref-format(1), and less: no sign of a refspec, and no option.
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]{0,254}", re.ASCII)
# Where hosts keep what forks propose; Git looks under refs/ for short names, too.
_FORKS = re.compile("(refs/)?(pull|pull-requests|merge-requests|changes)/", re.IGNORECASE)
_NO_REF = re.compile(r"\.\.|@\{|//|/\.|\.lock(/|$)|[./]$")
_COMMIT = re.compile("[0-9a-f]{40}")
_PATH = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/+@-]{0,500}\.ya?ml", re.ASCII)
_PLAIN_FILES = ("100644", "100755")
_KINDS = {"120000": "a symbolic link", "160000": "a submodule", "040000": "a directory"}
_LFS = b"version https://git-lfs.github.com/spec/"
_NOT_THERE = ("couldn't find remote ref", "not our ref", "unadvertised object", "no such remote ref")
_CLOSED = (
    "not found",
    "could not read Username",
    "Authentication failed",
    "returned error: 401",
    "returned error: 403",
)
_QUICK = 20.0
# The first that heeds http.curloptResolve; older ones pass over it, and look the name up again.
_GIT_NEEDED = (2, 37)
_VERSION = re.compile(r"git version (\d{1,3})\.(\d{1,4})[0-9A-Za-z.]*", re.ASCII)

_CONFIGURATION = {
    "protocol.allow": "never",
    # Redirects, and the alternates of the dumb protocol, lead to other hosts.
    "http.followRedirects": "false",
    "http.proxy": "",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "10",
    "credential.helper": "",
    "core.askPass": "",
    "core.hooksPath": "/dev/null",
    "core.bigFileThreshold": "1m",
    "fetch.fsckObjects": "true",
    # One pack, which the limit of a file's size holds for.
    "fetch.unpackLimit": "1",
    "fetch.recurseSubmodules": "false",
    "transfer.bundleURI": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


class GitSourceRefused(Rejected):
    slug = "git-source-refused"
    title = "The recipe cannot be taken from that repository"
    status = 422


class GitUnavailable(Unavailable):
    slug = "git-unavailable"
    title = "The Git repository does not answer"


@dataclass(frozen=True)
class GitPlace:
    """A recipe's file in a repository, as it was asked for: `ref` is a branch, a tag, or a commit's id."""

    repository: str
    ref: str
    path: str


@dataclass(frozen=True)
class Commit:
    """What a repository held at a commit: `id` is its SHA-1, `_objects` a bare repository, read before `_deadline`, a
    time of the monotonic clock."""

    id: str
    _objects: Path
    _deadline: float

    def read(self, path: str, limit: int) -> bytes | None:
        """A plain file, None if there is none. Raises NotBeside for what is none, or is larger than `limit` bytes, and
        GitUnavailable once the time is over."""
        listed = self._ask("--literal-pathspecs", "ls-tree", "-z", "-l", self.id, "--", path)
        for row in listed.split(b"\0"):
            about, _, name = row.partition(b"\t")
            if name != path.encode():
                continue
            mode, _, blob, size = about.decode("ascii").split()
            if mode not in _PLAIN_FILES:
                raise NotBeside(f"{path!r} is {_KINDS.get(mode, 'no file')}", "name a plain file")
            if int(size) > limit:
                raise NotBeside(f"{path!r} is larger than {limit} bytes", "put it into a package")
            content = self._ask("cat-file", "blob", blob, limit=limit)
            if content.startswith(_LFS):
                raise NotBeside(f"{path!r} is in Git LFS, which is not asked", "keep the file itself in the repository")
            return content
        return None

    def _ask(self, *arguments: str, limit: int = MAX_BYTES * 16) -> bytes:
        try:
            return _git(self._objects, *arguments, seconds=_left(self._deadline), limit=limit)
        except ProgramTimedOut as error:
            raise GitUnavailable(f"commit {self.id} was not read in time", hint="name fewer files") from error

    def recipe_text(self, path: str) -> bytes:
        """The recipe's file. Raises GitSourceRefused."""
        try:
            text = self.read(path, MAX_BYTES)
        except NotBeside as error:
            raise refused("path", str(error), error.hint) from error
        if text is None:
            raise refused("path", f"there is no {path} in commit {self.id}", "check the path, and the ref")
        return text

    def embed(self, recipe: Recipe, path: str) -> Recipe:
        """A recipe of this commit with the files beside it. Raises RecipeInvalid."""

        @cache
        def content_at(wanted: str) -> bytes:
            content = self.read(wanted, MAX_FILE_BYTES)
            if content is None:
                raise NotBeside(f"there is no {wanted!r} in commit {self.id}", "check the path")
            return content

        def beside(name: str) -> bytes:
            return content_at(posixpath.normpath(posixpath.join(posixpath.dirname(path), name)))

        return embed_sources(recipe, beside, source=path)


class GitSources:
    """`hosts` are HOST or HOST:PORT; `private` lets them be at private addresses, and be asked over plain HTTP. To
    fetch and read a commit takes at most `seconds`, and it has at most `max_bytes`."""

    def __init__(self, hosts: tuple[str, ...], *, private: bool, seconds: float, max_bytes: int) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._private = private
        self._seconds = seconds
        self._max_bytes = max_bytes

    @contextmanager
    def commit(self, place: GitPlace) -> Iterator[Commit]:
        """The commit that a reference names now. Raises GitSourceRefused or GitUnavailable."""
        url, pinned = self._checked(place.repository)
        installed_git()
        _check_ref(place.ref)
        _check_path(place.path)
        with tempfile.TemporaryDirectory(prefix="git-") as work:
            yield self._fetched(Path(work) / "objects", url, pinned, place)

    def _fetched(self, objects: Path, url: str, pinned: tuple[str, ...], place: GitPlace) -> Commit:
        deadline = time.monotonic() + self._seconds
        _git(objects, "init", "--quiet", "--bare", "--template=", str(objects), repository=False)
        scheme = urlsplit(url).scheme
        try:
            _git(
                objects, "-c", f"protocol.{scheme}.allow=always", *pinned,
                "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", url, place.ref,
                seconds=_left(deadline), max_file=self._max_bytes,
            )  # fmt: skip
            commit = _git(objects, "rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}").decode("ascii").strip()
        except ProgramTimedOut as error:
            raise GitUnavailable(f"{url} was not fetched within {self._seconds:g} seconds") from error
        except ProgramFailed as error:
            raise self._told(error, url, place) from error
        if _COMMIT.fullmatch(place.ref) and commit != place.ref:
            raise refused("ref", f"{place.ref} is the name of something else than a commit", None)
        return Commit(commit, objects, deadline)

    def _told(self, error: ProgramFailed, url: str, place: GitPlace) -> GitSourceRefused | GitUnavailable:
        said = error.stderr_tail
        if any(mark in said for mark in _NOT_THERE):
            return refused("ref", f"{url} has no {place.ref}", "name a branch, a tag, or the whole id of a commit")
        if "fsck" in said:
            return refused("repository", f"{url} holds an object that is not valid", None)
        if "invalid index-pack output" in said or "File too large" in said:
            what = f"{url} is larger than {self._max_bytes} bytes, or sends what is no pack"
            return refused("repository", what, "an operator can allow more: GOLDSMITH_GIT_BYTES")
        if any(mark in said for mark in _CLOSED):
            return refused("repository", f"{url} is not there, or not for everybody to read", None)
        if "unable to update url base from redirection" in said or "returned error: 30" in said:
            return refused("repository", f"{url} leads elsewhere", "name the address that it leads to")
        last = "".join(c if c.isprintable() else "?" for c in (said.splitlines() or ["Git said nothing"])[-1][:200])
        return GitUnavailable(f"{url} could not be fetched: {last}")

    def _checked(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The URL to fetch, and what holds Git to the address that was looked at."""
        try:
            told = urlsplit(text)
            host, port = told.hostname or "", told.port
        except ValueError as error:
            raise refused("repository", "is no URL", "write https://HOST/PATH") from error
        if told.scheme != "https" and not (self._private and told.scheme == "http"):
            raise refused("repository", "must be an https URL", "write https://HOST/PATH")
        if told.username is not None or told.query or told.fragment or "@" in told.netloc:
            raise refused("repository", "must be without a user, a query or a fragment", "write https://HOST/PATH")
        if not _HOST.fullmatch(host) or not _REPOSITORY.fullmatch(told.path) or "/../" in f"{told.path}/":
            raise refused("repository", "is no plain URL of a repository", "write https://HOST/PATH")
        name = host if port is None else f"{host}:{port}"
        if name not in self._hosts:
            listed = f"only {', '.join(sorted(self._hosts))}" if self._hosts else "no host is"
            raise refused(
                "repository", f"{name} is not allowed here; {listed}", "an operator allows hosts: GOLDSMITH_GIT_HOSTS"
            )
        wanted = port or (443 if told.scheme == "https" else 80)
        try:
            addresses = addresses_of(host, wanted)
        except OSError as error:
            raise GitUnavailable(f"{host} has no address now") from error
        hidden = [one for one in addresses if not self._private and not is_public(one)]
        if hidden:
            raise refused("repository", f"{host} is at {hidden[0]}, no public address", "see GOLDSMITH_GIT_PRIVATE")
        address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        return f"{told.scheme}://{name}{told.path}", ("-c", f"http.curloptResolve={host}:{wanted}:{address}")


@cache
def installed_git() -> str:
    """The version of the Git that is installed. Raises GitUnavailable for none, and for one too old to be pinned."""
    needed = ".".join(map(str, _GIT_NEEDED))
    mend = f"an operator must install Git {needed} or newer"
    try:
        said = run(["git", "--version"], timeout=_QUICK).stdout.decode("ascii", "replace").strip()
    except (ProgramMissing, ProgramFailed, ProgramTimedOut) as error:
        raise GitUnavailable(f"Git cannot be used here: {error.detail}", hint=mend) from error
    found = _VERSION.match(said)
    if found is None or (int(found[1]), int(found[2])) < _GIT_NEEDED:
        raise GitUnavailable(f"{said[:100]!r} is installed, and {needed} is needed", hint=mend)
    return found[0].removeprefix("git version ")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ProgramTimedOut("the time of the commit is over")
    return left


def refused(field: str, message: str, hint: str | None) -> GitSourceRefused:
    """What to raise about one of the three: repository, ref, path."""
    fault = Fault(field=field, message=message, hint=hint)
    return GitSourceRefused(str(fault), errors=[fault])


def _check_ref(ref: str) -> None:
    if _FORKS.match(ref):
        raise refused(
            "ref", f"{ref[:60]!r} is what anybody may propose from a fork, not what the repository's owners took in",
            "name a branch, a tag or a commit; of a branch with such a name refs/heads/NAME",
        )  # fmt: skip
    if not _REF.fullmatch(ref) or _NO_REF.search(ref):
        raise refused(
            "ref", f"{ref[:60]!r} is no name of a branch, a tag or a commit", "such as main, v1.2 or refs/heads/x"
        )


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path) or posixpath.normpath(path) != path or path.startswith("../"):
        raise refused("path", f"{path[:60]!r} is no path of a recipe in a repository", "such as images/web.yaml")


def _git(
    objects: Path,
    *arguments: str,
    seconds: float = _QUICK,
    limit: int = MAX_BYTES * 16,
    max_file: int | None = None,
    repository: bool = True,
) -> bytes:
    configuration = [part for name, value in _CONFIGURATION.items() for part in ("-c", f"{name}={value}")]
    environment = {
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
        "GIT_ATTR_NOSYSTEM": "1", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_NO_LAZY_FETCH": "1", "HOME": str(objects.parent),
        "NO_PROXY": "*", "no_proxy": "*",
    }  # fmt: skip
    where = ["--git-dir", str(objects)] if repository else []
    return run(
        ["git", *configuration, *where, *arguments],
        timeout=seconds, env=environment, cwd=objects.parent, max_output=limit + 1, max_file=max_file,
    ).stdout  # fmt: skip
