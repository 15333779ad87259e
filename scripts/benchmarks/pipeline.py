"""From POST to released, by step, cold and warm; beside the same image made, pushed, scanned and signed by hand.

By hand means: mmdebstrap and `docker import` for the base, a Dockerfile equal to recipes/web.yaml, `docker build
--no-cache`, `docker push`, one Trivy run for findings and one for an SBOM, and the stock `sigstore` command to attest.
It leaves out what only Goldsmith does: the recipe's tests, the inventory, attaching, the record, the live log.
Both use the same mirrors, engine, registry, Trivy, database and Sigstore. Cold means empty caches on both sides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import docker
import httpx

from builder.engine.docker import CACHE_REPOSITORY
from builder.planning.mirrors import find_mirrors
from builder.recipes.catalogue import Catalogue
from scripts.stack.services import ROOT, Stack

_WARM_RUNS = 3
_BIN = Path(sys.executable).parent


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="goldsmith-bench-") as work:
        stack = Stack(Path(work) / "stack", any_ports=True)
        try:
            stack.up(lambda line: print(line, file=sys.stderr))
            _forget_bootstraps(stack)
            ours_cold, steps = _ours(stack)
            ours_warm = [_ours(stack) for _ in range(_WARM_RUNS)]
            hand = _ByHand(stack, Path(work) / "hand")
            hand_cold = hand.cold()
            hand_warm = [hand.warm() for _ in range(_WARM_RUNS)]
            hand.clean()
        finally:
            stack.down(lambda line: print(line, file=sys.stderr))
    _print_steps("cold (base and web)", ours_cold, steps)
    warm_seconds, warm_steps = sorted(ours_warm, key=lambda run: run[0])[_WARM_RUNS // 2]
    _print_steps("warm (web on its released base), median", warm_seconds, warm_steps)
    hand_warm_total = sorted(sum(run.values()) for run in hand_warm)[_WARM_RUNS // 2]
    print("by hand, cold: " + _listed(hand_cold))
    print("by hand, warm, last: " + _listed(hand_warm[-1]))
    cold_total = sum(hand_cold.values())
    print("\n| | Goldsmith | by hand | ratio |\n| --- | --- | --- | --- |")
    print(f"| cold | {ours_cold:.1f} s | {cold_total:.1f} s | {ours_cold / cold_total:.2f} |")
    print(f"| warm | {warm_seconds:.1f} s | {hand_warm_total:.1f} s | {warm_seconds / hand_warm_total:.2f} |")
    return 0


def _ours(stack: Stack) -> tuple[float, list[tuple[str, str, float]]]:
    """Seconds from POST to released, and (recipe, step, seconds) of every step on the way."""
    key = json.loads(stack.client_config.read_text())["key"]
    with httpx.Client(base_url=stack.api_url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as api:
        started = time.monotonic()
        build: dict[str, Any] = api.post("/v1/builds", json={"recipe": "web"}).raise_for_status().json()
        while build["finishedAt"] is None:
            time.sleep(0.05)
            build = api.get(f"/v1/builds/{build['id']}").json()
        seconds = time.monotonic() - started
        if build["state"] != "released":
            raise SystemExit(f"the build was not released: {build['problem']}")
        chain = [api.get(f"/v1/builds/{build['waitsFor']}").json()] if build["waitsFor"] else []
        steps = [(b["recipe"], s["name"], s["seconds"]) for b in (*chain, build) for s in b["steps"]]
    return seconds, steps


class _ByHand:
    def __init__(self, stack: Stack, work: Path) -> None:
        work.mkdir()
        self._stack = stack
        self._work = work
        self._image = f"{stack.registry}/hand/web:latest"
        self._env = {**os.environ, "DOCKER_HOST": stack.engine_url, "DOCKER_BUILDKIT": "0", "NO_PROXY": "127.0.0.1"}

    def cold(self) -> dict[str, float]:
        mirrors = find_mirrors(None, None)
        tar = self._work / "base.tar"
        sources = self._work / "sources.list"
        sources.write_text(mirrors.sources("trixie", ["main"]))
        bootstrap = [
            "mmdebstrap",
            "--variant=apt",
            "--include=ca-certificates,tzdata",
            "trixie",
            str(tar),
            str(sources),
        ]
        times = {"mmdebstrap": self._timed(bootstrap)}
        times["docker import"] = self._timed(["docker", "import", str(tar), "hand-base"])
        return times | self.warm(database=True)

    def warm(self, *, database: bool = False) -> dict[str, float]:
        context = self._work / "context"
        self._write_context(context)
        # The container needs a way to the archive, which a build by Goldsmith never has.
        build = ["docker", "build", "--no-cache", "--network=host", "--quiet", "-t", self._image, str(context)]
        times = {"docker build": self._timed(build)}
        times["docker push"] = self._timed(["docker", "push", "--quiet", self._image])
        trivy = [str(_BIN / "trivy"), "image", "--image-src", "remote", "--cache-dir", str(self._work / "trivy"),
                 "--skip-version-check", "--disable-telemetry", "--quiet", "--cache-backend", "memory"]  # fmt: skip
        if database:
            source = f"{self._stack.registry}/goldsmith/trivy-db:2"
            times["trivy database"] = self._timed([*trivy, "--download-db-only", "--db-repository", source])
        scan = [*trivy, "--skip-db-update", "--offline-scan"]
        everything = ["--scanners", "vuln,secret,misconfig", "--skip-check-update", "-f", "json"]
        times["trivy scan"] = self._timed([*scan, *everything, "-o", str(self._work / "scan.json"), self._image])
        times["trivy sbom"] = self._timed([*scan, "-f", "cyclonedx", "-o", str(self._work / "sbom.json"), self._image])
        times["sigstore attest"] = self._attest()
        return times

    def clean(self) -> None:
        client = docker.DockerClient(base_url=self._stack.engine_url)
        for name in (self._image, "hand-base"):
            client.images.remove(name, force=True)

    def _write_context(self, context: Path) -> None:
        recipe = Catalogue(ROOT / "recipes").get("web").recipe
        context.mkdir(exist_ok=True)
        (context / "nginx.conf").write_text(recipe.spec.files[0].content or "")
        (context / "index.html").write_text(recipe.spec.files[1].content or "")
        (context / "Dockerfile").write_text(
            "FROM hand-base\n"
            "RUN apt-get update && apt-get install -y --no-install-recommends nginx-light"
            " && rm -rf /var/lib/apt/lists/*"
            " && echo web:x:10001:10001::/nonexistent:/usr/sbin/nologin >>/etc/passwd"
            " && echo web:x:10001: >>/etc/group\n"
            "COPY nginx.conf /etc/nginx/nginx.conf\nCOPY index.html /srv/www/index.html\n"
            "RUN find / -xdev -perm /6000 -type f -exec chmod ug-s {} +\n"
            "USER 10001:10001\nEXPOSE 8080\n"
            'ENTRYPOINT ["/usr/sbin/nginx", "-g", "daemon off;"]\n'
        )

    def _attest(self) -> float:
        """The manifest's bytes are what is attested; the token comes from the same issuer as ours."""
        host, _, rest = self._image.partition("/")
        name, _, tag = rest.partition(":")
        accept = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = httpx.get(f"http://{host}/v2/{name}/manifests/{tag}", headers={"Accept": accept}).content
        (self._work / "manifest.json").write_bytes(manifest)
        (self._work / "predicate.json").write_text(
            json.dumps({"buildDefinition": {"buildType": "urn:by-hand", "externalParameters": {}},
                        "runDetails": {"builder": {"id": "urn:by-hand"}}})
        )  # fmt: skip
        environment = self._stack.environment("release")
        secret = Path(environment["GOLDSMITH_IDENTITY_CLIENT_SECRET_FILE"]).read_text().strip()
        grant = {
            "grant_type": "client_credentials",
            "client_id": "goldsmith",
            "client_secret": secret,
            "audience": "sigstore",
        }
        token = httpx.post(environment["GOLDSMITH_IDENTITY_TOKEN_URL"], data=grant).json()["access_token"]
        bundle = self._work / "bundle.json"
        bundle.unlink(missing_ok=True)
        return self._timed(
            [str(_BIN / "sigstore"), "--trust-config", environment["GOLDSMITH_SIGSTORE_TRUST_CONFIG"], "attest",
             "--identity-token", token, "--predicate", str(self._work / "predicate.json"),
             "--predicate-type", "https://slsa.dev/provenance/v1", "--bundle", str(bundle),
             str(self._work / "manifest.json")]
        )  # fmt: skip

    def _timed(self, argv: list[str]) -> float:
        started = time.monotonic()
        done = subprocess.run(argv, env=self._env, cwd=self._work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{argv[0]} failed: {done.stderr[-2000:]}{done.stdout[-1000:]}")
        return time.monotonic() - started


def _forget_bootstraps(stack: Stack) -> None:
    client = docker.DockerClient(base_url=stack.engine_url)
    for image in client.images.list(CACHE_REPOSITORY):
        for tag in image.tags:
            client.images.remove(tag, force=True)


def _print_steps(title: str, seconds: float, steps: list[tuple[str, str, float]]) -> None:
    print(f"\n{title}: {seconds:.1f} s")
    for recipe, name, spent in steps:
        print(f"  {recipe:<8} {name:<13} {spent:6.2f} s")
    print(f"  {'between steps':<22} {seconds - sum(spent for _, _, spent in steps):6.2f} s")


def _listed(times: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items())
