"""What a local Goldsmith consists of: each service's command, environment, and how to tell that it is ready."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scripts.stack.processes import Process, StackFailed

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ("build", "scan", "release", "rebuild")
_QUEUES = {"build": "build,resolve", "scan": "scan,compare,errands"}
ENGINE_SOCKET = "/var/run/docker.sock"
_SANDBOX_IDENTITY = "https://sandbox.invalid/goldsmith"
_SANDBOX_REBUILDER = "https://sandbox.invalid/rebuilder"
_IDENTITY = ("GOLDSMITH_IDENTITY_", "GOLDSMITH_SIGNER_", "GOLDSMITH_REBUILDER_")
_PORTS = {"redis": 6420, "registry": 5420, "sigstore": 8421, "api": 8420}

_REGISTRY = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
http: {{addr: 127.0.0.1:{port}}}
"""


class Stack:
    """All services below one state directory. Ports are chosen once, free ones, and kept in `stack.json`.

    `overrides` are settings (without GOLDSMITH_) for whatever is started from now on, `applications` the modules that
    workers, by queue, API and dispatcher are started from.
    """

    def __init__(self, state: Path, *, any_ports: bool = False) -> None:
        self.state = state.absolute()
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.overrides: dict[str, str] = {}
        self.applications = {name: f"workers.{name}" for name in (*WORKERS, "dispatcher")} | {"api": "builder.api.app"}
        self.ports = self._choose_ports(any_ports)

    # Where things are

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api']}"

    @property
    def registry(self) -> str:
        return f"127.0.0.1:{self.ports['registry']}"

    @property
    def sigstore_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['sigstore']}"

    @property
    def sigstore_state(self) -> Path:
        return self.state / "sigstore"

    @property
    def client_config(self) -> Path:
        return self.state / "client.json"

    @property
    def engine_url(self) -> str:
        return os.environ.get("DOCKER_HOST", f"unix://{ENGINE_SOCKET}")

    def process(self, name: str) -> Process:
        return Process(name, self.state / "run", self.state / "log" / f"{name}.log")

    def environment(self, role: str) -> dict[str, str]:
        """What a process of Goldsmith gets. Engine and signer are told to their workers alone; who rebuilds has caches
        and an identity of its own."""
        settings = {
            "STATE_DIRECTORY": str(self.state / "state"),
            "RECIPES_DIRECTORY": str(ROOT / "recipes"),
            "DATABASE_URL": f"sqlite:///{self.state / 'state' / 'goldsmith.db'}",
            "REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "REGISTRY": self.registry,
            "SIGSTORE_TRUST_CONFIG": str(self.sigstore_state / "client_trust_config.json"),
            "SIGNER_IDENTITY": _SANDBOX_IDENTITY,
            "SIGNER_ISSUER": self.sigstore_url,
        }
        if role in ("build", "rebuild"):
            settings["ENGINE_URL"] = self.engine_url
        if role == "scan":
            settings["TRIVY_DATABASE"] = f"{self.registry}/goldsmith/trivy-db:2"
        if role == "release":
            settings |= {
                "IDENTITY_TOKEN_URL": f"{self.sigstore_url}/oidc/token",
                "IDENTITY_CLIENT_ID": "goldsmith",
                "IDENTITY_CLIENT_SECRET_FILE": str(self.sigstore_state / "client_secret"),
                "LEDGER_KEY_FILE": str(self.state / "ledger.key"),
            }
        if role == "rebuild":
            settings |= {
                "STATE_DIRECTORY": str(self.state / "rebuilder"),
                "BUILDER_ID": "https://goldsmith.invalid/rebuilder",
                "REBUILDER_IDENTITY": _SANDBOX_REBUILDER,
                "REBUILDER_ISSUER": self.sigstore_url,
                "IDENTITY_TOKEN_URL": f"{self.sigstore_url}/oidc/token",
                "IDENTITY_CLIENT_ID": "rebuilder",
                "IDENTITY_CLIENT_SECRET_FILE": str(self.sigstore_state / "rebuilder_secret"),
            }
        if role in (*WORKERS, "dispatcher"):
            settings["PULSE_DIRECTORY"] = str(self.state / "pulse" / role)
        settings |= self.overrides
        own = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSMITH_")}
        chosen = {f"GOLDSMITH_{name}": value for name, value in settings.items()}
        # What a user has set for Goldsmith wins over what we chose; set to nothing, it takes our choice away.
        users = {name: value for name, value in os.environ.items() if name.startswith("GOLDSMITH_")}
        if "GOLDSMITH_SIGSTORE_TRUST_CONFIG" in users:
            # Another Sigstore knows nothing of the sandbox's identity.
            chosen = {name: value for name, value in chosen.items() if not name.startswith(_IDENTITY)}
        for name, value in users.items():
            if _meant_for(name, role):
                chosen[name] = value
        return {**own, **chosen, "NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"}

    # Up and down

    def up(self, say: Callable[[str], None]) -> None:
        """Start whatever does not run yet, in order, and wait until each is ready. Raises StackFailed."""
        self._engine(say)
        self._redis(say)
        self._registry(say)
        self._sigstore(say)
        self._prepare(say)
        self._api(say)
        for queue in WORKERS:
            self._worker(queue, say)
        self._dispatcher(say)

    def down(self, say: Callable[[str], None]) -> None:
        """Stop what we started, and nothing else."""
        names = ["dispatcher", *(f"worker-{queue}" for queue in WORKERS), "api", "sigstore", "registry", "redis"]
        for name in [*names, "engine"]:
            process = self.process(name)
            if process.alive():
                process.stop()
                say(f"stopped {name}")

    def start(self, *names: str) -> None:
        """Start some of the services (again). Raises StackFailed."""
        starters: dict[str, Callable[[Callable[[str], None]], None]] = {
            "engine": self._engine, "redis": self._redis, "registry": self._registry, "sigstore": self._sigstore,
            "api": self._api, "dispatcher": self._dispatcher,
        }  # fmt: skip
        for name in names:
            if name.startswith("worker-"):
                self._worker(name.removeprefix("worker-"), _silent)
            else:
                starters[name](_silent)

    def _engine(self, say: Callable[[str], None]) -> None:
        if self.engine_answers():
            say("engine: one answers already, using it" if not self.process("engine").alive() else "engine: runs")
            return
        if "DOCKER_HOST" in os.environ:
            raise StackFailed(f"engine: nothing answers at DOCKER_HOST ({os.environ['DOCKER_HOST']})")
        data = self.state / "engine"
        argv = [
            "dockerd", "--host", f"unix://{ENGINE_SOCKET}", "--data-root", str(data / "data"),
            "--exec-root", str(data / "run"), "--pidfile", str(data / "dockerd.pid"),
        ]  # fmt: skip
        data.mkdir(parents=True, exist_ok=True)
        (data / "dockerd.pid").unlink(missing_ok=True)
        self._start("engine", argv, dict(os.environ), self.engine_answers, say, patience=60)

    def engine_answers(self) -> bool:
        done = subprocess.run(
            [sys.executable, "-c", "import docker,sys; docker.DockerClient(base_url=sys.argv[1], timeout=5).ping()",
             self.engine_url],
            check=False, capture_output=True,
        )  # fmt: skip
        return done.returncode == 0

    def _redis(self, say: Callable[[str], None]) -> None:
        data = self.state / "redis"
        data.mkdir(parents=True, exist_ok=True)
        port = self.ports["redis"]
        argv = [
            "redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(data), "--daemonize", "no",
            "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction", "--save", "",
        ]  # fmt: skip
        self._start("redis", argv, dict(os.environ), lambda: _listens(port), say)

    def _registry(self, say: Callable[[str], None]) -> None:
        port = self.ports["registry"]
        config = self.state / "registry.yml"
        config.write_text(_REGISTRY.format(data=self.state / "registry", port=port))
        argv = ["docker-registry", "serve", str(config)]
        self._start("registry", argv, dict(os.environ), lambda: _answers(port, "/v2/"), say)

    def _sigstore(self, say: Callable[[str], None]) -> None:
        port = self.ports["sigstore"]
        argv = [sys.executable, "-m", "builder.sandbox", "--state", str(self.sigstore_state), "--port", str(port)]
        self._start("sigstore", argv, self.environment("sigstore"), lambda: _answers(port, "/healthz"), say)

    def _prepare(self, say: Callable[[str], None]) -> None:
        """The database's schema, the ledger's key, one for the CLI, and the sample vulnerability database."""
        self._goldsmith("admin", "migrate")
        ledger_key = Path(self.environment("release").get("GOLDSMITH_LEDGER_KEY_FILE", ""))
        if not ledger_key.exists():
            self._goldsmith("ledger", "key", "generate", str(ledger_key))
        if not self.client_config.exists():
            key = self._goldsmith("admin", "create-key", f"quickstart-{secrets.token_hex(2)}", "--json")
            self.client_config.touch(mode=0o600)
            self.client_config.write_text(
                json.dumps(
                    {
                        "url": self.api_url,
                        "key": json.loads(key)["key"],
                        "trustedRoot": str(self.sigstore_state / "trusted_root.json"),
                        "identity": _SANDBOX_IDENTITY,
                        "issuer": self.sigstore_url,
                        "rebuilder": _SANDBOX_REBUILDER,
                        "ledgerKey": self._goldsmith("ledger", "key", "show", str(ledger_key)).strip(),
                    },
                    indent=2,
                )
            )
        if self.environment("scan")["GOLDSMITH_TRIVY_DATABASE"].startswith(self.registry):
            self._goldsmith("admin", "sample-database", "--push", f"{self.registry}/goldsmith/trivy-db")
            say("trivy database: the sample (real advisories, not complete) is in the registry")

    def _api(self, say: Callable[[str], None]) -> None:
        port = self.ports["api"]
        argv = [
            sys.executable, "-m", "uvicorn", "--factory", f"{self.applications['api']}:create_app", "--host",
            "127.0.0.1", "--port", str(port), "--timeout-graceful-shutdown", "5",
        ]  # fmt: skip
        self._start("api", argv, self.environment("api"), lambda: _answers(port, "/readyz"), say)

    def _worker(self, queue: str, say: Callable[[str], None]) -> None:
        name = f"worker-{queue}"
        argv = [
            sys.executable, "-m", "celery", "-A", self.applications[queue], "worker", "-Q", _QUEUES.get(queue, queue),
            "-c", "1", "-n", f"{queue}@%h", "--loglevel", "info", "--without-gossip", "--without-mingle",
        ]  # fmt: skip
        log = self.process(name).log
        begun = log.stat().st_size if log.exists() else 0

        def ready() -> bool:
            if not log.exists():
                return False
            with log.open("rb") as stream:
                stream.seek(begun)
                return b" ready." in stream.read()

        self._start(name, argv, self.environment(queue), ready, say)

    def _dispatcher(self, say: Callable[[str], None]) -> None:
        argv = [sys.executable, "-m", self.applications["dispatcher"]]
        process = self.process("dispatcher")
        self._start("dispatcher", argv, self.environment("dispatcher"), process.alive, say)

    def _start(
        self,
        name: str,
        argv: list[str],
        env: dict[str, str],
        ready: Callable[[], bool],
        say: Callable[[str], None],
        patience: float = 40,
    ) -> None:
        process = self.process(name)
        if process.alive():
            say(f"{name}: runs")
            return
        if ready():
            raise StackFailed(
                f"{name}: another program answers at its port; stop that, or remove {self.state / 'stack.json'} "
                f"to have other ports chosen (its log: {process.log})"
            )
        try:
            process.start(argv, env, ROOT)
        except FileNotFoundError as error:
            raise StackFailed(f"{name}: {argv[0]} is not installed") from error
        deadline = time.monotonic() + patience
        while not ready():
            if not process.alive():
                raise StackFailed(f"{name} ended at once: {process.tail()} (its log: {process.log})")
            if time.monotonic() > deadline:
                raise StackFailed(f"{name} did not get ready within {patience:g} seconds (its log: {process.log})")
            time.sleep(0.1)
        process.pid()  # raises if it was not ours that got ready
        say(f"{name}: started")

    def _goldsmith(self, *arguments: str) -> str:
        log = self.state / "log" / "admin.log"
        done = subprocess.run(
            [sys.executable, "-m", "builder.cli", *arguments],
            env=self.environment("admin"), cwd=ROOT, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(done.stderr)
            raise StackFailed(f"goldsmith {' '.join(arguments)} failed (its log: {log})")
        return done.stdout

    def _choose_ports(self, any_ports: bool) -> dict[str, int]:
        file = self.state / "stack.json"
        if file.exists():
            found: dict[str, int] = json.loads(file.read_text())["ports"]
            return found
        ports: dict[str, int] = {}
        for name, wanted in _PORTS.items():
            ports[name] = _free_port() if any_ports or _listens(wanted) else wanted
        file.write_text(json.dumps({"ports": ports}))
        return ports


def _meant_for(variable: str, role: str) -> bool:
    """Whether a role may see a variable: the engine is the builders', the identity the release worker's alone."""
    owners = {
        "GOLDSMITH_ENGINE_": ("build", "rebuild"),
        "GOLDSMITH_IDENTITY_": ("release",),
        "GOLDSMITH_LEDGER_KEY_": ("release",),
    }
    return all(role in owner for prefix, owner in owners.items() if variable.startswith(prefix))


def _silent(_: str) -> None:
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
