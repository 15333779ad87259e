"""The databases that the store promises to run on, real ones: SQLite files, and a throw-away PostgreSQL cluster.

Test modules take the fixtures with `pytest_plugins = ["tests.unit.databases"]`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest

from builder.store.database import Database

_NUMBERS = count()


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server that answers on a Unix socket alone."""

    socket: Path

    @contextmanager
    def away(self) -> Iterator[None]:
        """For a while there is no server: it ends without a word to anybody, as one that is killed."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def stop(self) -> None:
        self._control("stop", "--mode", "immediate")

    def start(self) -> None:
        """Unless it runs."""
        if not self._control("status", check=False):
            options = f"-k {self.socket} -c listen_addresses= -c max_connections=200"
            self._control("start", "--log", str(self.socket / "later.log"), "--options", options)

    def end(self) -> None:
        """End the server, whoever started it last."""
        self._control("stop", "--mode", "fast", check=False)

    def _control(self, *arguments: str, check: bool = True) -> bool:
        """Whether it went well."""
        user = "postgres" if os.getuid() == 0 else None
        done = subprocess.run(
            [_programs() / "pg_ctl", *arguments, "--pgdata", self.socket / "data", "--wait", "--silent"],
            user=user, group=user, extra_groups=[] if user else None, cwd=self.socket, check=check,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode == 0

    def create(self, name: str, template: str = "template0") -> str:
        """A new database's URL."""
        with psycopg.connect(host=str(self.socket), user="goldsmith", dbname="postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')  # type: ignore[call-overload]
        return f"postgresql://goldsmith@/{name}?host={self.socket}"


@contextmanager
def running_postgresql(*, durable: bool = False) -> Iterator[Cluster]:
    """PostgreSQL refuses to run as root: there it runs as the user that its package made. Only a durable one waits for
    the disk."""
    programs = _programs()
    directory = Path(tempfile.mkdtemp(prefix="goldsmith-pg-", dir="/tmp"))
    user = None
    if os.getuid() == 0:
        user = "postgres"
        os.chown(directory, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    data = directory / "data"
    initdb = [programs / "initdb", "-D", data, "-U", "goldsmith", "--auth=trust", "--no-sync", "--encoding=UTF8"]
    subprocess.run(
        [*initdb, "--locale=C"], user=user, group=user, extra_groups=[] if user else None, cwd=directory, check=True,
        capture_output=True,
    )  # fmt: skip
    server = subprocess.Popen(
        [
            programs / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses=",
            "-c", f"fsync={'on' if durable else 'off'}", "-c", "max_connections=200",
        ],
        user=user, group=user, extra_groups=[] if user else None, cwd=directory, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=(directory / "log").open("wb"),
    )  # fmt: skip
    try:
        _wait(server, directory)
        yield Cluster(directory)
    finally:
        server.send_signal(signal.SIGINT)  # what PostgreSQL calls a fast shutdown: it waits for nobody
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(5)
        Cluster(directory).end()  # a test may have started another
        shutil.rmtree(directory)


@contextmanager
def running_pgbouncer(cluster: Cluster, *, connections: int = 4) -> Iterator[Path]:
    """PgBouncer before a cluster, in transaction pooling, with so few connections that clients share them: the
    directory of its socket, at the port 6432. It refuses to run as root, too."""
    directory = Path(tempfile.mkdtemp(prefix="goldsmith-pool-", dir="/tmp"))
    (directory / "users").write_text('"goldsmith" ""\n')
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={cluster.socket}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n"
        f"unix_socket_dir = {directory}\nauth_type = trust\nauth_file = {directory / 'users'}\n"
        f"pool_mode = transaction\nignore_startup_parameters = options\ndefault_pool_size = {connections}\n"
        f"max_client_conn = 500\nlogfile = {directory / 'log'}\n"
    )
    user = None
    if os.getuid() == 0:
        user = "postgres"
        for path in (directory, *directory.iterdir()):
            os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    pooler = subprocess.Popen(
        [shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", "--quiet", directory / "pgbouncer.ini"],
        user=user, group=user, extra_groups=[] if user else None, cwd=directory, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(200):
            assert pooler.poll() is None, (directory / "log").read_text()
            if (directory / ".s.PGSQL.6432").exists():
                break
            time.sleep(0.05)
        yield directory
    finally:
        pooler.send_signal(signal.SIGTERM)
        pooler.wait(10)
        shutil.rmtree(directory)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert found, "PostgreSQL is not installed: the Debian package is `postgresql`"
    return found[-1]


def _wait(server: subprocess.Popen[bytes], directory: Path) -> None:
    for _ in range(200):
        assert server.poll() is None, (directory / "log").read_text()
        try:
            psycopg.connect(host=str(directory), user="goldsmith", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise AssertionError((directory / "log").read_text())


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_postgresql() as found:
        yield found


@pytest.fixture(scope="session")
def migrated_cluster(cluster: Cluster) -> Cluster:
    """Has a database `migrated`, from which others are copied in no time."""
    database = Database(cluster.create("migrated"))
    database.migrate()
    database.close()
    return cluster


@pytest.fixture(scope="session")
def pooler(cluster: Cluster) -> Iterator[Path]:
    with running_pgbouncer(cluster) as found:
        yield found


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


def pooled(url: str, pooler: Path) -> str:
    """The URL of the same database, through the pooler."""
    return f"{url.partition('?')[0]}?host={pooler}&port=6432"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return request.getfixturevalue("cluster").create(f"empty{next(_NUMBERS)}")  # type: ignore[no-any-return]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the newest schema."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "goldsmith.db")
        return f"sqlite:///{tmp_path / 'goldsmith.db'}"
    made: str = request.getfixturevalue("migrated_cluster").create(f"store{next(_NUMBERS)}", "migrated")
    # By hand: everything that runs on PostgreSQL, through a pooler.
    return pooled(made, request.getfixturevalue("pooler")) if os.environ.get("TEST_POOLED") else made


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    found = Database(url)
    yield found
    found.close()
