"""What people do by hand around an image, timed step by step: a base, a Dockerfile, scans, an SBOM, a signature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import docker
import httpx
from docker.errors import NotFound

from builder.planning.mirrors import find_mirrors
from builder.recipes.catalogue import Catalogue
from scripts.stack.services import ROOT, Stack

_BIN = Path(sys.executable).parent
_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
_ACCOUNTS = (
    ("etc/passwd", "web:x:10001:10001::/nonexistent:/usr/sbin/nologin"),
    ("etc/group", "web:x:10001:"),
)
_NO_SETUID = "find {root} -xdev -perm /6000 -type f -exec chmod ug-s {{}} +"
# What the engine is left with can be told by it.
LABEL = "goldsmith-benchmark"
CONFIGURATION = ("USER 10001:10001", "EXPOSE 8080", 'ENTRYPOINT ["/usr/sbin/nginx", "-g", "daemon off;"]')


class ByHand:
    """The same mirrors, engine, registry, Trivy, database and Sigstore as the stack's own. `work` is its directory."""

    def __init__(self, stack: Stack, work: Path) -> None:
        work.mkdir()
        self.work = work
        self._stack = stack
        self._env = {**os.environ, "DOCKER_HOST": stack.engine_url, "DOCKER_BUILDKIT": "0", "NO_PROXY": "127.0.0.1"}

    def timed(self, argv: Sequence[str]) -> float:
        """Seconds that a program takes; the benchmark ends if it fails."""
        started = time.monotonic()
        done = subprocess.run(argv, env=self._env, cwd=self.work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{argv[0]} failed: {done.stderr[-2000:]}{done.stdout[-1000:]}")
        return time.monotonic() - started

    def forget_images(self) -> None:
        """Take from the engine what carries the label, also what lost its name to a later build."""
        client = docker.DockerClient(base_url=self._stack.engine_url)
        for image in client.images.list(filters={"label": LABEL}):
            with suppress(NotFound):  # it went with another that was built on it
                client.images.remove(image.id, force=True)

    # The image

    def bootstrap(self, tar: Path, packages: Sequence[str], *hooks: str) -> float:
        """mmdebstrap, as it comes: signed indexes and packages from the network, its tree in TMPDIR."""
        sources = self.work / "sources.list"
        sources.write_text(find_mirrors(None, None).sources("trixie", ["main"]))
        customised = [f"--customize-hook={hook}" for hook in hooks]
        include = ",".join(packages)
        return self.timed(
            ["mmdebstrap", "--variant=apt", f"--include={include}", *customised, "trixie", str(tar), str(sources)]
        )

    def write_context(self, base: str, packages: Sequence[str]) -> Path:
        """A Dockerfile equal to recipes/web.yaml, on `base`, with these packages; answers its directory."""
        context = self.work / "context"
        context.mkdir(exist_ok=True)
        files = self.write_files(context)
        accounts = "".join(f" && echo {line} >>/{path}" for path, line in _ACCOUNTS)
        copied = "".join(f"COPY {source.name} {target}\n" for source, target in files)
        (context / "Dockerfile").write_text(
            f"FROM {base}\n"
            f"RUN apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
            f" && rm -rf /var/lib/apt/lists/*{accounts} && {_NO_SETUID.format(root='/')}\n"
            + copied
            + "\n".join(CONFIGURATION)
            + "\n"
        )
        return context

    def write_files(self, directory: Path) -> list[tuple[Path, str]]:
        """The recipe's files, and where each goes in the image."""
        written = []
        for file in Catalogue(ROOT / "recipes").get("web").recipe.spec.files:
            source = directory / Path(file.path).name
            source.write_text(file.content or "")
            written.append((source, file.path))
        return written

    def hooks(self) -> list[str]:
        """The same Dockerfile's steps for mmdebstrap."""
        copies = [
            f'mkdir -p "$1{Path(target).parent}" && cp {source} "$1{target}"'
            for source, target in self.write_files(self.work)
        ]
        accounts = [f'echo {line} >>"$1/{path}"' for path, line in _ACCOUNTS]
        return [*copies, *accounts, _NO_SETUID.format(root='"$1"')]

    # What makes it a scanned, signed, pushed one

    def push(self, source: str, image: str) -> float:
        return self.timed(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", source, f"docker://{image}"])

    def evidence(self, image: str, *, database: bool) -> dict[str, float]:
        """Seconds of each step; `database` when Trivy has none yet. Trivy keeps what it found in each layer."""
        times: dict[str, float] = {}
        trivy = [str(_BIN / "trivy"), "image", "--image-src", "remote", "--cache-dir", str(self.work / "trivy"),
                 "--skip-version-check", "--disable-telemetry", "--quiet"]  # fmt: skip
        if database:
            source = f"{self._stack.registry}/goldsmith/trivy-db:2"
            times["trivy database"] = self.timed([*trivy, "--download-db-only", "--db-repository", source])
        scan = [*trivy, "--skip-db-update", "--offline-scan"]
        everything = ["--scanners", "vuln,secret,misconfig", "--skip-check-update", "-f", "json"]
        times["trivy scan"] = self.timed([*scan, *everything, "-o", str(self.work / "scan.json"), image])
        times["trivy sbom"] = self.timed([*scan, "-f", "cyclonedx", "-o", str(self.work / "sbom.json"), image])
        times["sigstore attest"] = self._attest(image)
        return times

    def _attest(self, image: str) -> float:
        """The manifest's bytes are what is attested; the token comes from the same issuer as ours."""
        host, _, rest = image.partition("/")
        name, _, tag = rest.partition(":")
        manifest = httpx.get(f"http://{host}/v2/{name}/manifests/{tag}", headers={"Accept": _MANIFESTS})
        (self.work / "manifest.json").write_bytes(manifest.raise_for_status().content)
        (self.work / "predicate.json").write_text(
            json.dumps({"buildDefinition": {"buildType": "urn:by-hand", "externalParameters": {}},
                        "runDetails": {"builder": {"id": "urn:by-hand"}}})
        )  # fmt: skip
        environment = self._stack.environment("release")
        grant = {
            "grant_type": "client_credentials",
            "client_id": environment["GOLDSMITH_IDENTITY_CLIENT_ID"],
            "client_secret": Path(environment["GOLDSMITH_IDENTITY_CLIENT_SECRET_FILE"]).read_text().strip(),
            "audience": "sigstore",
        }
        token = httpx.post(environment["GOLDSMITH_IDENTITY_TOKEN_URL"], data=grant).json()["access_token"]
        bundle = self.work / "bundle.json"
        bundle.unlink(missing_ok=True)
        return self.timed(
            [str(_BIN / "sigstore"), "--trust-config", environment["GOLDSMITH_SIGSTORE_TRUST_CONFIG"], "attest",
             "--identity-token", token, "--predicate", str(self.work / "predicate.json"),
             "--predicate-type", "https://slsa.dev/provenance/v1", "--bundle", str(bundle),
             str(self.work / "manifest.json")]
        )  # fmt: skip
