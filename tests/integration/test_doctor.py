"""`goldsmith doctor` on hosts of the service: real servers, and each fault really made."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.ledger.signing import generate_key
from builder.scanning.database import take_in
from builder.scanning.sample.build import build_sample
from builder.scanning.sources import file_source
from builder.store.database import Database
from tests.integration.redis_server import running_redis
from tests.integration.registry_server import running_registry
from tests.integration.sandbox_server import Sandbox

ROLES = ("api", "build", "scan", "errands", "release", "dispatcher")
RECIPES = Path(__file__).parents[2] / "recipes"
Output = pytest.CaptureFixture[str]


@dataclass
class Host:
    """A host whose settings are all good; a test spoils one thing."""

    directory: Path
    settings: dict[str, str]
    output: Output
    found: dict[str, dict[str, str]] = field(default_factory=dict)

    def doctor(self, monkeypatch: pytest.MonkeyPatch, *roles: str, seconds: int = 20) -> int:
        for name in [name for name in os.environ if name.startswith("GOLDSMITH_")]:
            monkeypatch.delenv(name)
        for name, value in self.settings.items():
            monkeypatch.setenv(f"GOLDSMITH_{name}", value)
        line = ["doctor", "--json", "--timeout", str(seconds)]
        ended = main([*line, *(part for role in roles for part in ("--role", role))])
        told = json.loads(self.output.readouterr().out)
        self.found = {one["name"]: one for one in told["checks"]}
        assert told["healthy"] == (ended == 0)
        return ended

    def failed(self) -> set[str]:
        return {name for name, one in self.found.items() if one["state"] == "fail"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    work = tmp_path_factory.mktemp("servers")
    with running_redis(work) as redis, running_registry(work / "registry") as registry:
        yield {"REDIS_URL": redis, "REGISTRY": registry}


@pytest.fixture
def host(tmp_path: Path, servers: dict[str, str], sandbox: Sandbox, docker_engine: str, capsys: Output) -> Host:
    state = tmp_path / "state"
    database = Database(f"sqlite:///{tmp_path / 'goldsmith.db'}")
    database.migrate()
    database.close()
    generate_key(tmp_path / "ledger.key")
    place_database(state, age=timedelta(hours=1))
    settings = {
        **servers,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'goldsmith.db'}",
        "STATE_DIRECTORY": str(state),
        "RECIPES_DIRECTORY": str(RECIPES),
        "ENGINE_URL": docker_engine,
        "TRIVY_DATABASE": "imported",
        "SIGSTORE_TRUST_CONFIG": str(sandbox.client_trust_config),
        "SIGNER_IDENTITY": sandbox.identity,
        "SIGNER_ISSUER": sandbox.issuer,
        "IDENTITY_TOKEN_URL": f"{sandbox.url}/oidc/token",
        "IDENTITY_CLIENT_ID": "goldsmith",
        "IDENTITY_CLIENT_SECRET_FILE": str(sandbox.state / "client_secret"),
        "LEDGER_KEY_FILE": str(tmp_path / "ledger.key"),
    }
    return Host(tmp_path, settings, capsys)


def place_database(state: Path, *, age: timedelta) -> None:
    """The sample, as if it had been made then."""
    shutil.rmtree(state / "trivy", ignore_errors=True)
    (state / "trivy").mkdir(parents=True)
    made = datetime.now(UTC) - age
    build_sample(made, made + timedelta(days=1)).write(state / "sample")
    take_in(file_source(state / "sample"), state / "trivy", maximum_age=timedelta(hours=48), allow_stale=True)


def test_where_all_is_well_nothing_fails(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.doctor(monkeypatch, *ROLES) == 0
    states = {name: one["state"] for name, one in host.found.items()}
    assert states.pop("trivy-database") == "warn", "it is the sample"
    assert states.pop("disk") in ("ok", "warn"), "this machine may be small"
    assert set(states.values()) == {"ok"}, host.found
    assert {"engine", "registry", "redis", "database", "trivy", "sigstore", "identity", "ledger-key", "clock"} <= set(
        states
    )


def test_a_worker_is_asked_for_what_it_needs_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.settings |= {"ENGINE_URL": "unix:///nowhere.sock", "LEDGER_KEY_FILE": "/nowhere"}
    assert host.doctor(monkeypatch, "scan") == 0
    assert not {"engine", "ledger-key", "identity", "recipes"} & set(host.found)


@pytest.mark.parametrize(
    ("role", "spoilt", "check", "told"),
    [
        ("build", {"ENGINE_URL": "unix:///nowhere.sock"}, "engine", "no Docker Engine answers at unix:///nowhere.sock"),
        ("api", {"DATABASE_URL": "sqlite:////nowhere/goldsmith.db"}, "database", "there is no file"),
        ("api", {"DATABASE_URL": "what?"}, "database", "is not a database URL"),
        ("api", {"RECIPES_DIRECTORY": "/nowhere"}, "recipes", "there is no directory /nowhere"),
        ("api", {"POLICY": "/nowhere.yaml"}, "policy", "/nowhere.yaml cannot be read"),
        ("scan", {"TRIVY": "/nowhere/trivy"}, "trivy", "/nowhere/trivy"),
        ("scan", {"TRIVY_SHA256": "0" * 64}, "trivy", "not"),
        ("release", {"LEDGER_KEY_FILE": "/nowhere.key"}, "ledger-key", "/nowhere.key cannot be read"),
        ("release", {"SIGSTORE_TRUST_CONFIG": "/nowhere.json"}, "sigstore", "/nowhere.json is not a usable"),
        ("release", {"IDENTITY_CLIENT_ID": "somebody"}, "identity", "refused the client 'somebody'"),
        ("release", {"SIGNER_IDENTITY": "https://other.example"}, "identity", "not https://other.example"),
        ("api", {"LEASE_SECONDS": "soon"}, "settings", "GOLDSMITH_LEASE_SECONDS"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_told_with_the_way_out(
    host: Host, monkeypatch: pytest.MonkeyPatch, role: str, spoilt: dict[str, str], check: str, told: str
) -> None:
    host.settings |= spoilt
    assert host.doctor(monkeypatch, role) == 2
    assert host.failed() == {check}
    assert told in host.found[check]["detail"]
    assert host.found[check]["mend"]


def test_servers_that_were_stopped(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as redis, running_registry(tmp_path / "registry") as registry:
        host.settings |= {"REDIS_URL": redis, "REGISTRY": registry}
        assert host.doctor(monkeypatch, "dispatcher") == 0
    assert host.doctor(monkeypatch, "dispatcher") == 2
    assert host.failed() == {"redis", "registry"}


def test_a_registry_that_wants_to_know_who_it_is(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text("")
    extra = f"auth: {{htpasswd: {{realm: test, path: {tmp_path / 'htpasswd'}}}}}"
    with running_registry(tmp_path / "registry", extra, status=401) as registry:
        host.settings["REGISTRY"] = registry
        assert host.doctor(monkeypatch, "dispatcher") == 2
    assert "GOLDSMITH_REGISTRY_USERNAME" in host.found["registry"]["mend"]


def test_schemas_of_other_versions(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'older.db'}")
    first = database.revisions()[1][-1]
    database.migrate(first)
    host.settings["DATABASE_URL"] = f"sqlite:///{tmp_path / 'older.db'}"
    assert host.doctor(monkeypatch, "api") == 2
    assert host.found["database"]["mend"] == "`goldsmith admin migrate`"
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    assert host.doctor(monkeypatch, "api") == 2
    assert "does not know" in host.found["database"]["detail"]


def test_the_scanners_database_old_gone_and_damaged(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    state = host.directory / "state"
    place_database(state, age=timedelta(hours=60))
    assert host.doctor(monkeypatch, "scan") == 2
    assert host.failed() == {"trivy-database"}
    for file in (state / "trivy").rglob("trivy.db"):
        file.write_bytes(b"no database")
    assert host.doctor(monkeypatch, "scan") == 2
    shutil.rmtree(state / "trivy")
    assert host.doctor(monkeypatch, "scan") == 2, "an imported one comes from nowhere"
    assert "goldsmith database import" in host.found["trivy-database"]["mend"]
    del host.settings["TRIVY_DATABASE"]
    assert host.doctor(monkeypatch, "scan") == 0, "the first scan fetches it"


def test_a_ledger_key_that_others_can_read(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.directory / "ledger.key").chmod(0o644)
    assert host.doctor(monkeypatch, "release") == 2
    assert host.found["ledger-key"]["mend"] == f"chmod 600 {host.directory / 'ledger.key'}"


def test_a_full_disk(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    small = host.directory / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)], check=True)
    try:
        host.settings["STATE_DIRECTORY"] = str(small / "state")
        assert host.doctor(monkeypatch, "build", "api") == 2
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert host.failed() == {"disk"}
    assert "1,024 are needed" in host.found["disk"]["detail"], "what a build needs, not what an API does"


def test_who_never_answers_holds_nobody_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        host.settings |= {
            "REDIS_URL": f"redis://127.0.0.1:{port}/0",
            "REGISTRY": f"127.0.0.1:{port}",
            "ENGINE_URL": f"tcp://127.0.0.1:{port}",
        }
        begun = time.monotonic()
        assert host.doctor(monkeypatch, "build", seconds=6) == 2
        assert time.monotonic() - begun < 12
    assert host.failed() == {"redis", "registry", "engine"}
    assert host.found["engine"]["detail"] == "no answer within 6 seconds"


def test_a_clock_that_is_wrong(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + 3600)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Ahead) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host.settings["REGISTRY"] = f"127.0.0.1:{server.server_address[1]}"
        assert host.doctor(monkeypatch, "dispatcher") == 2
        server.shutdown()
    assert "behind" in host.found["clock"]["detail"]
    assert "3600 s" in host.found["clock"]["detail"] or "3599 s" in host.found["clock"]["detail"]
