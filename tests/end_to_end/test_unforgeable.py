"""A build that would write its own provenance, or reach whoever writes it, or the next build, does not succeed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from builder.image.documents import parse_manifest
from builder.registry.artifact import BUNDLE
from tests.end_to_end.world import Goldsmith, Released

FORGED = '{"_type":"https://in-toto.io/Statement/v1","predicate":{"runDetails":{"builder":{"id":"evil"}}}}'


@pytest.fixture(scope="module")
def hostile(goldsmith: Goldsmith, web: Released) -> Released:
    """An image whose build tried all it could think of. What came of it is in its /srv/seen."""
    assert web.digest  # its base is released
    ports = goldsmith.stack.ports
    reach = "; ".join(
        f"(exec 3<>/dev/tcp/{host}/{port}) 2>/dev/null && echo reached {name} at {host}"
        for name, port in (("api", ports["api"]), ("registry", ports["registry"]), ("signer", ports["sigstore"]))
        for host in ("127.0.0.1", "172.17.0.1", "169.254.169.254")
    )
    attempts = f"""
        set +e; exec >>/srv/seen
        {reach}
        for socket in /var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock; do
            test -e $socket && echo found $socket
        done
        env | grep -v ^HOSTNAME= | grep -i -e goldsmith_ -e sigstore -e token -e password -e registry
        grep -q . /proc/1/environ 2>/dev/null && tr '\\0' '\\n' </proc/1/environ | grep -i -e goldsmith_ -e token
        for pid in /proc/[0-9]*; do
            grep -a -q -e 'cel[e]ry' -e 'docker[d]' $pid/cmdline 2>/dev/null && echo sees $pid
        done
        echo '{FORGED}' >/provenance.json
        mkdir -p /run/goldsmith && echo '{FORGED}' >/run/goldsmith/provenance
        echo '::set-output name=provenance::{FORGED}'
        echo '{FORGED}' >&2
        (echo '{FORGED}' >/proc/1/fd/1) 2>/dev/null
        echo kept >/var/tmp/for-the-next; echo kept >/dev/shm/for-the-next
        (setsid sleep 300 &) 2>/dev/null
        echo tried
    """
    return goldsmith.release(
        goldsmith.recipe(
            "hostile",
            run=[{"shell": attempts}],
            labels={"dev.sigstore.predicate": "https://slsa.dev/provenance/v1"},
            tests=[{"command": ["cat", "/srv/seen"], "stdout": {"matches": "tried"}}],
        )
    )


def seen(goldsmith: Goldsmith, image: Released) -> list[str]:
    goldsmith.engine.images.pull(image.reference)
    output = goldsmith.engine.containers.run(image.reference, ["cat", "/srv/seen"], remove=True, network_mode="none")
    return [line for line in output.decode().splitlines() if line and not line.startswith("::set-output")]


def provenances(goldsmith: Goldsmith, image: Released) -> list[dict[str, Any]]:
    """Every SLSA provenance that is beside the image in the registry."""
    repository, found = goldsmith.repository(image), []
    for one in goldsmith.referrers(image):
        if one.artifact_type == BUNDLE:
            manifest = parse_manifest(goldsmith.registry.manifests.get(repository.at(one.digest)).data)
            bundle = json.loads(goldsmith.registry.blobs.fetch(repository, manifest.layers[0]))
            statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
            if statement["predicateType"] == "https://slsa.dev/provenance/v1":
                found.append(statement)
    return found


def test_it_reached_neither_signer_nor_registry_nor_control_plane_and_saw_no_secret(
    goldsmith: Goldsmith, hostile: Released
) -> None:
    assert seen(goldsmith, hostile) == ["tried"]


def test_what_is_signed_is_what_the_control_plane_recorded(goldsmith: Goldsmith, hostile: Released) -> None:
    (statement,) = provenances(goldsmith, hostile)
    assert statement["subject"][0]["digest"]["sha256"] == hostile.digest.removeprefix("sha256:")
    details = statement["predicate"]["runDetails"]
    builder_id = goldsmith.stack.environment("api").get("GOLDSMITH_BUILDER_ID")
    assert "evil" not in json.dumps(details)
    assert builder_id is None or details["builder"]["id"] == builder_id
    assert details["metadata"]["invocationId"].endswith(hostile.build["id"])
    told = goldsmith.run("verify", hostile.reference).stdout
    assert "evil" not in told


def test_what_it_wrote_is_a_file_of_the_image_like_any_other(goldsmith: Goldsmith, hostile: Released) -> None:
    output = goldsmith.engine.containers.run(
        hostile.reference, ["cat", "/provenance.json"], remove=True, network_mode="none"
    )
    assert output.decode().strip() == FORGED


def test_it_left_nothing_for_the_next_build(goldsmith: Goldsmith, hostile: Released) -> None:
    look = """
        set +e; exec >>/srv/seen
        cat /var/tmp/for-the-next /dev/shm/for-the-next /run/goldsmith/provenance /provenance.json 2>/dev/null
        for pid in /proc/[0-9]*; do
            tr '\\0' ' ' 2>/dev/null <$pid/cmdline | grep -q 'sl[e]ep 300' && echo sees $pid
        done
        echo looked
    """
    after = goldsmith.release(goldsmith.recipe("after-hostile", run=[{"shell": look}]))
    assert seen(goldsmith, after) == ["looked"]
    goldsmith.wait_until_clean()
