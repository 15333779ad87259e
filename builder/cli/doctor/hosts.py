"""What hosts of the service need, by the role that they have: database, Redis, registry, engine, Trivy, disk, clock."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.doctor.findings import Check, Finding, fail, ok, warn

if TYPE_CHECKING:
    from builder.settings import Settings

_MIB = 1024 * 1024
# A build has gigabytes on disk for a while; the others write little.
_ROOM = {"build": (1024, 8 * 1024), "rebuild": (1024, 8 * 1024), "scan": (1024, 4 * 1024),
         "errands": (1024, 4 * 1024)}  # fmt: skip
_LITTLE_ROOM = (100, 1024)
# A process that is heard of every five seconds, on a busy machine.
SILENT_SECONDS = 45.0
_MIGRATE = "`goldsmith admin migrate` makes it, and brings it up to date"


def checks(role: str, settings: Settings) -> list[Check]:
    """Those of one role; several roles have some in common, by name."""
    every = {
        "database": (lambda: _database(settings), "check GOLDSMITH_DATABASE_URL, and that the server runs"),
        "redis": (lambda: _redis(settings), "start Redis, or set GOLDSMITH_REDIS_URL"),
        "registry": (lambda: _registry(settings), "start the registry, or set GOLDSMITH_REGISTRY"),
        "recipes": (lambda: _recipes(settings), "set GOLDSMITH_RECIPES_DIRECTORY"),
        "policy": (lambda: _policy(settings), "`goldsmith policy check FILE` names each fault"),
        "engine": (lambda: _engine(settings), "start a Docker Engine, or set GOLDSMITH_ENGINE_URL"),
        "programs": (_programs, "install the Debian packages mmdebstrap and dpkg"),
        "trivy": (lambda: _trivy(settings), "install it anew, or set GOLDSMITH_TRIVY"),
        "trivy-database": (lambda: _trivy_database(settings), "`goldsmith database update` fetches one"),
        "webhook": (lambda: _webhook(settings), "set GOLDSMITH_WEBHOOK_SECRET_FILE"),
        "pulse": (lambda: _pulse(settings), "restart it; its log says what it did last"),
        "git": (lambda: _git(settings), "install the Debian package git"),
        "disk": (lambda: _disk(settings, role), "free some space, or set GOLDSMITH_STATE_DIRECTORY"),
    }  # fmt: skip
    return [Check(name, *every[name]) for name in _OF_ROLE[role]]


_OF_ROLE = {
    "api": ("database", "redis", "registry", "recipes", "policy", "git", "disk"),
    "build": ("database", "redis", "registry", "engine", "programs", "disk", "pulse"),
    "scan": ("database", "redis", "registry", "trivy", "trivy-database", "policy", "disk", "pulse"),
    "errands": ("database", "redis", "registry", "trivy", "trivy-database", "policy", "webhook", "disk", "pulse"),
    "release": ("database", "redis", "registry", "policy", "disk", "pulse"),
    "rebuild": ("database", "redis", "registry", "engine", "programs", "disk", "pulse"),
    "dispatcher": ("database", "redis", "registry", "policy", "pulse"),
}


def _database(settings: Settings) -> Finding:
    from sqlalchemy import make_url, text

    from builder.store.database import Database

    try:
        url = make_url(settings.database_url)
    except Exception:
        return fail("GOLDSMITH_DATABASE_URL is not a database URL", "write sqlite:///FILE or postgresql://HOST/NAME")
    told = url.render_as_string(hide_password=True)
    # To connect would make it.
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return fail(f"there is no file {url.database}", _MIGRATE)
    database = Database(settings.database_url)
    try:
        has, newest = database.revisions()
        if has is None:
            return fail(f"{told} has no tables", _MIGRATE)
        if has not in newest:
            return fail(f"the schema of {told} is {has}, which this version does not know",
                        "install the version of Goldsmith that the other hosts have")  # fmt: skip
        if has != newest[0]:
            return fail(f"the schema of {told} is {has}, and {newest[0]} is needed", "`goldsmith admin migrate`")
        with database.write() as session:
            session.execute(text("SELECT 1"))
    finally:
        database.close()
    return ok(f"{told}, schema {has}")


def _redis(settings: Settings) -> Finding:
    import redis

    url = settings.redis_url.get_secret_value()
    try:
        with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            version = client.info("server")["redis_version"]
    except (redis.AuthenticationError, redis.ResponseError):
        return fail(
            "Redis wants a password, or another one", "write it into GOLDSMITH_REDIS_URL: redis://:PASSWORD@HOST/0"
        )
    except (redis.RedisError, ValueError, OSError) as error:
        return fail(f"Redis does not answer: {error}", "start it, or set GOLDSMITH_REDIS_URL; builds wait meanwhile")
    return ok(f"Redis {version} answers")


def _registry(settings: Settings) -> Finding:
    import tempfile
    from dataclasses import replace

    from builder.cli.evidence import registry_access
    from builder.registry.client import RegistryClient
    from builder.registry.errors import RegistryRefused

    access = replace(registry_access(None), patience=5.0, attempts=1)
    with tempfile.TemporaryDirectory() as locks, RegistryClient(access, lock_directory=Path(locks)) as registry:
        try:
            registry.ping(settings.registry)
        except RegistryRefused as error:
            return fail(error.detail, "set GOLDSMITH_REGISTRY_USERNAME and …_PASSWORD_FILE, or GOLDSMITH_DOCKER_CONFIG")
    return ok(f"{settings.registry} lets us in")


def _recipes(settings: Settings) -> Finding:
    from builder.errors import GoldsmithError
    from builder.recipes.catalogue import Catalogue

    directory, wrong = settings.recipes_directory, []
    if not directory.is_dir():
        return fail(f"there is no directory {directory}", "set GOLDSMITH_RECIPES_DIRECTORY")
    catalogue = Catalogue(directory)
    names = catalogue.names()
    for name in names:
        try:
            catalogue.get(name)
        except GoldsmithError:
            wrong.append(name)
    if wrong:
        return warn(f"of {len(names)} recipes in {directory} {', '.join(wrong)} cannot be used",
                    "`goldsmith recipe validate FILE` names each fault")  # fmt: skip
    return ok(f"{len(names)} in {directory}")


def _git(settings: Settings) -> Finding:
    from builder.recipes.git import installed_git

    if not settings.git_hosts:
        return ok("not needed: no GOLDSMITH_GIT_HOSTS is set")
    return ok(f"Git {installed_git()} for {', '.join(settings.git_hosts)}")


def _policy(settings: Settings) -> Finding:
    from builder.policy.checked import checked_policy

    if settings.policy is None:
        return ok("the default: no GOLDSMITH_POLICY is set")
    try:
        read = checked_policy(settings.policy.read_bytes(), str(settings.policy))
    except OSError as error:
        return fail(f"{settings.policy} cannot be read: {error.strerror}", "set GOLDSMITH_POLICY")
    return ok(f"{settings.policy}: {read.metadata.name} {read.metadata.version}")


def _webhook(settings: Settings) -> Finding:
    from builder.pipeline.notifying import check_secret

    if settings.webhook_secret_file is None:
        return ok("not needed: no GOLDSMITH_WEBHOOK_URL is set")
    check_secret(settings.webhook_secret_file)
    return ok(f"its secret is in {settings.webhook_secret_file}")


def _engine(settings: Settings) -> Finding:
    from builder.engine.docker import Engine, Limits

    limits = Limits(settings.build_memory_bytes, settings.build_cpus, settings.build_processes)
    engine = Engine(settings.engine_url, limits, runtime=settings.engine_runtime)
    try:
        return ok(f"{engine.identity()} at {settings.engine_url}")
    finally:
        engine.close()


def _programs() -> Finding:
    missing = [program for program in ("mmdebstrap", "dpkg-deb", "apt-get") if shutil.which(program) is None]
    if missing:
        return fail(f"not installed: {', '.join(missing)}", "install the Debian packages mmdebstrap, dpkg and apt")
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        return fail("Debian's keys are not installed", "install the Debian package debian-archive-keyring")
    return ok("mmdebstrap, dpkg-deb, apt-get")


def _trivy(settings: Settings) -> Finding:
    import sys

    from builder.scanning.binary import Trivy

    trivy = Trivy(settings.trivy or Path(sys.executable).parent / "trivy", allowed=settings.trivy_sha256)
    found = trivy.identity()
    return ok(f"{found.name} {found.version}, {trivy.path}")


def _trivy_database(settings: Settings) -> Finding:
    from datetime import UTC, datetime, timedelta

    from builder.scanning.database import installed
    from builder.scanning.errors import DatabaseMissing
    from builder.scanning.sources import IMPORTED

    limit = timedelta(hours=settings.trivy_database_hours)
    fetch = "`goldsmith database update` fetches one; `goldsmith database status` says more"
    try:
        found = installed((settings.state_directory / "trivy").absolute(), limit).identity
    except DatabaseMissing as error:
        if settings.trivy_database == IMPORTED:
            return fail(error.detail, "`goldsmith database import FILE` puts one in place")
        return warn("none is in place yet: the first scan will fetch it", fetch)
    age = datetime.now(UTC) - found.updated_at
    told = f"{age / timedelta(hours=1):.0f} hours old, from {found.source}"
    if found.sample:
        return warn(f"{told}: a SAMPLE, which cannot tell that an image is safe", "leave GOLDSMITH_TRIVY_DATABASE out")
    if age > limit * 0.75:
        return warn(f"{told}; the limit is {settings.trivy_database_hours}", fetch)
    return ok(told)


def _pulse(settings: Settings) -> Finding:
    from builder.pulse import silences

    if settings.pulse_directory is None:
        return ok("not looked at: no GOLDSMITH_PULSE_DIRECTORY is set")
    found = silences(settings.pulse_directory)
    if not found:
        return fail("none of its processes runs here", "start it")
    stuck = {pid: silent for pid, silent in found.items() if silent > SILENT_SECONDS}
    if stuck:
        told = ", ".join(f"process {pid} for {silent:.0f} s" for pid, silent in stuck.items())
        return fail(f"silent: {told}", "restart it; its log says what it did last")
    return ok(f"{len(found)} process{'es' if len(found) > 1 else ''}, heard of within {max(found.values()):.0f} s")


def _disk(settings: Settings, role: str) -> Finding:
    directory = settings.state_directory.absolute()
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(there, os.W_OK):
        return fail(f"{there} cannot be written by this user", "give it to the user that runs Goldsmith")
    needs, wants = _ROOM.get(role, _LITTLE_ROOM)
    free = shutil.disk_usage(there).free // _MIB
    told = f"{free:,} MiB free for {directory}"
    mend = "free some, lower GOLDSMITH_CACHE_BYTES, or set GOLDSMITH_STATE_DIRECTORY"
    if free < needs:
        return fail(f"{told}, and {needs:,} are needed", mend)
    if free < wants:
        return warn(f"{told}; {wants:,} are better", mend)
    system = os.statvfs(there)
    if system.f_files and system.f_favail * 100 < system.f_files:
        return fail(f"{there} has hardly any inodes left", "remove small files, or set GOLDSMITH_STATE_DIRECTORY")
    return ok(told)
