"""The main job: a recipe goes in, a released image comes out, and everyone who asks gets what they need."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from builder.api.scopes import ROUTES
from builder.image.inventory import open_inventory
from builder.store.scopes import Scope
from tests.end_to_end.world import Goldsmith, Released

STEPS = [
    "resolve", "materials", "base", "packages", "users", "files", "run", "harden", "canonicalise", "stage", "test",
    "database", "scan", "gate", "sign", "publish", "record", "tag",
]  # fmt: skip


def test_web_is_released_with_every_step_done_and_timed(web: Released) -> None:
    assert [step["name"] for step in web.build["steps"]] == STEPS
    assert all(step["state"] == "done" and step["seconds"] >= 0 for step in web.build["steps"])
    result = web.build["result"]
    assert result["gate"] == "passed"
    assert result["hermetic"] is True
    assert result["tests"] == 6
    assert result["packages"] > 80
    assert result["tags"] == ["1", "latest"]


def test_a_scan_by_the_sample_database_and_a_sandbox_signature_say_so_wherever_they_show(
    goldsmith: Goldsmith, web: Released
) -> None:
    result = web.build["result"]
    assert result["sampleDatabase"] is True
    assert "sample database" in result["gateExplanation"]
    assert result["sandboxSigner"] is True
    shown = goldsmith.run("show", web.build["id"]).stdout
    assert "sample" in shown.lower()
    assert "sandbox" in shown.lower()
    record = goldsmith.api.get(f"/v1/images/{web.digest}/record").json()
    assert record["scan"]["database"]["sample"] is True
    assert record["release"]["sandbox"] is True


def test_the_base_was_built_first_because_nobody_had_released_it(goldsmith: Goldsmith, web: Released) -> None:
    base = goldsmith.build(web.build["waitsFor"])
    assert (base["recipe"], base["state"]) == ("debian", "released")
    assert base["finishedAt"] <= web.build["steps"][0]["startedAt"]


def test_the_tags_name_the_digest_and_staging_is_empty(goldsmith: Goldsmith, web: Released) -> None:
    repository = goldsmith.repository(web)
    assert goldsmith.registry.manifests.get(repository.tagged("latest")).digest == web.digest
    assert goldsmith.registry.manifests.get(repository.tagged("1")).digest == web.digest
    goldsmith.wait_until_clean()


def test_the_image_runs_from_the_registry_and_nginx_answers_as_an_unprivileged_user(
    goldsmith: Goldsmith, web: Released
) -> None:
    engine = goldsmith.engine
    engine.images.pull(web.reference.partition("@")[0], tag=web.digest)
    container = engine.containers.run(web.reference, detach=True, ports={"8080/tcp": ("127.0.0.1", None)})
    try:
        container.reload()
        port = container.ports["8080/tcp"][0]["HostPort"]
        transport = httpx.HTTPTransport(retries=20)
        with httpx.Client(transport=transport) as client:
            assert "golden image" in client.get(f"http://127.0.0.1:{port}/").text
        assert container.top()["Processes"]
        assert container.exec_run(["id", "-u"]).output.strip() == b"10001"
    finally:
        container.remove(force=True)


def test_auditors_get_the_record_the_attachments_and_the_inventory(
    goldsmith: Goldsmith, web: Released, tmp_path: Path
) -> None:
    image = goldsmith.api.get(f"/v1/images/{web.digest}").raise_for_status().json()
    assert image["build"] == web.build["id"]
    record = goldsmith.api.get(image["links"]["record"]).json()
    assert record["imageDigest"] == web.digest
    assert record["requester"].startswith("quickstart-")
    assert record["recipe"]["metadata"]["name"] == "web"
    assert {package["name"] for package in record["build"]["lock"]["packages"]} >= {"nginx", "nginx-light"}
    assert record["scan"]["scanner"]["version"]
    assert len(record["scan"]["scanner"]["sha256"]) == 64
    assert record["scan"]["database"]["digest"].startswith("sha256:")

    cyclonedx = goldsmith.api.get(image["links"]["sbom"]).json()
    assert cyclonedx["bomFormat"] == "CycloneDX"
    assert any(component["name"] == "nginx" for component in cyclonedx["components"])
    spdx = goldsmith.api.get(image["links"]["sbom"], params={"format": "spdx"}).json()
    assert spdx["spdxVersion"].startswith("SPDX-2")
    assert goldsmith.api.get(image["links"]["scan"]).json()["SchemaVersion"] == 2

    file = tmp_path / "inventory"
    file.write_bytes(goldsmith.api.get(image["links"]["inventory"]).content)
    with open_inventory(file) as (header, records):
        paths = {record.entry.path: record for record in records}
    assert header.root == web.build["result"]["inventoryRoot"]
    assert paths[b"usr/sbin/nginx"].package is not None
    assert b"usr/bin/apt-get" not in paths


def test_bundle_and_attachments_are_referrers_of_the_image(goldsmith: Goldsmith, web: Released) -> None:
    kinds = {one.artifact_type for one in goldsmith.referrers(web)}
    assert kinds == {
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.goldsmith.inventory.v1+zstd",
        "application/vnd.goldsmith.materials.v1+json",
        "application/vnd.cyclonedx+json",
        "application/spdx+json",
        "application/vnd.aquasec.trivy.report+json",
    }


def test_a_build_is_followed_live_and_the_stream_can_be_resumed(goldsmith: Goldsmith, web: Released) -> None:
    path = f"/v1/builds/{web.build['id']}/logs"
    headers = {"Accept": "text/event-stream"}
    events = goldsmith.api.get(path, headers=headers).text.strip().split("\n\n")
    assert events[-1].startswith("event: end")
    numbers = [int(event.split("id: ")[1].split(".")[0]) for event in events if event.startswith("event: log")]
    assert numbers == list(range(1, len(numbers) + 1))
    half = numbers[len(numbers) // 2]
    resumed = goldsmith.api.get(path, headers=headers | {"Last-Event-ID": str(half)}).text.strip().split("\n\n")
    again = [int(event.split("id: ")[1].split(".")[0]) for event in resumed if event.startswith("event: log")]
    assert again == numbers[len(numbers) // 2 + 1 :]


def test_the_same_recipe_again_gives_the_same_digest(goldsmith: Goldsmith, web: Released) -> None:
    assert goldsmith.release("web").digest == web.digest


def test_every_shipped_recipe_is_released(goldsmith: Goldsmith, shipped: Callable[[str], Released]) -> None:
    listed = goldsmith.api.get("/v1/recipes").json()
    assert listed["invalid"] == {}
    names = {recipe["name"] for recipe in listed["recipes"]}
    assert names == {"debian", "python", "web"}
    assert all(shipped(name).build["result"]["gate"] == "passed" for name in names)


def test_the_commands_that_the_summary_prints_work(goldsmith: Goldsmith, web: Released) -> None:
    verified = goldsmith.run("verify", web.reference)
    assert "https://sandbox.invalid/goldsmith" in verified.stdout
    goldsmith.engine.images.pull(web.reference.partition("@")[0], tag=web.digest)
    container = goldsmith.engine.containers.run(web.reference, detach=True)
    try:
        assert goldsmith.run("compare", container.id, web.reference).returncode == 0
        change = "echo evil >> /etc/nginx/nginx.conf; touch /usr/sbin/added; rm /srv/www/index.html"
        assert container.exec_run(["sh", "-c", change], user="0").exit_code == 0
        drifted = goldsmith.run("compare", container.id, web.reference, "--json", check=False)
        assert drifted.returncode == 3
        found = {one["path"]: one["kinds"] for one in json.loads(drifted.stdout)["findings"]}
        assert found == {
            "/etc/nginx/nginx.conf": ["content"],
            "/srv/www/index.html": ["removed"],
            "/usr/sbin/added": ["added"],
        }
    finally:
        container.remove(force=True)


def test_only_the_build_worker_knows_the_engine_and_only_the_release_worker_the_signer(goldsmith: Goldsmith) -> None:
    for queue in ("build", "scan", "release"):
        pid = goldsmith.stack.process(f"worker-{queue}").pid()
        environment = Path(f"/proc/{pid}/environ").read_text()
        assert ("GOLDSMITH_ENGINE_URL" in environment) == (queue == "build")
        assert ("GOLDSMITH_IDENTITY_" in environment) == (queue == "release")


def test_nothing_is_open_without_a_key_but_health_and_trust(goldsmith: Goldsmith, web: Released) -> None:
    url = goldsmith.stack.api_url
    closed = [
        "/v1/builds", f"/v1/builds/{web.build['id']}", f"/v1/images/{web.digest}", "/v1/recipes", "/openapi.json",
        "/problems/gate-failed", "/metrics",
    ]  # fmt: skip
    for path in closed:
        answer = httpx.get(url + path)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert httpx.get(url + path, headers={"Authorization": "Bearer gs_wrong"}).status_code == 401
    for path in ("/healthz", "/readyz", "/v1/trust"):
        assert httpx.get(url + path).status_code == 200


def test_an_auditor_reads_every_record_and_starts_nothing(goldsmith: Goldsmith, web: Released) -> None:
    scopes = [Scope.PROVENANCE_READ, Scope.BUILDS_READ]
    made = goldsmith.run("key", "create", "auditor", *(f"--scope={scope}" for scope in scopes), "--json")
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    named = {
        "digest": web.digest, "build_id": web.build["id"], "name": "web", "attestation": "provenance", "index": 0,
        "size": 1, "tile": "0/000.p/1", "slug": "gate-failed",
    }  # fmt: skip
    query = {
        "/v1/ledger/proofs/inclusion": {"record": web.digest},
        "/v1/ledger/proofs/consistency": {"first": "1", "second": "1"},
    }
    read = 0
    with httpx.Client(base_url=goldsmith.stack.api_url, headers=headers) as auditor:
        for action, needs in ROUTES.items():
            method, _, path = action.partition(" ")
            if any(f"{{{kind}_id}}" in path for kind in ("comparison", "exception", "webhook")):
                continue  # none was made
            may = method == "GET" and (not needs.scopes or {*needs.scopes} & {*scopes})
            answer = auditor.request(method, path.format(**named, number=1), params=query.get(path))
            if path == "/v1/recipes/{name}/lock":
                assert answer.json()["type"] == "/problems/recipe-not-locked"
            elif may:
                assert answer.status_code == 200, (action, answer.text)
                read += 1
            elif action not in ("POST /v1/policies/evaluate", "POST /v1/verifications", "POST /v1/ledger/cosignatures"):
                assert answer.status_code == 403, action
    assert read > 35


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/builds/unknown", "/v1/images/sha256:" + "0" * 64])
def test_what_is_not_there_is_a_problem_that_says_so(goldsmith: Goldsmith, path: str) -> None:
    answer = goldsmith.api.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) >= {"type", "title", "status", "detail"}


def test_the_openapi_document_names_its_errors(goldsmith: Goldsmith) -> None:
    document = goldsmith.api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], f"{method} {path}"
            if path.startswith("/v1/") and path != "/v1/trust":
                assert "401" in operation["responses"], f"{method} {path}"
