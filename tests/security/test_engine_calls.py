"""What Goldsmith asks of the engine is what docs/security/engine.md tells a filtering proxy to let through."""

from __future__ import annotations

import io
import re
import secrets
import tarfile
import time
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from builder.engine.docker import BaseUnavailable, Engine, Limits
from tests.integration.busybox import busybox_root
from tests.integration.registry_server import running_registry

GUIDE = Path(__file__).resolve().parents[2] / "docs/security/engine.md"


def call_of(request: requests.PreparedRequest) -> str:
    """Without the version of the API, and with `{id}` for what names one of many."""
    path = re.sub(r"^/v1\.\d+", "", request.path_url.partition("?")[0])
    path = re.sub(r"^/(containers|networks|exec)/(?!create$|json$)[^/]+", r"/\1/{id}", path)
    path = re.sub(r"^/images/(?!create$).+?(/json)?$", r"/images/{id}\1", path)
    return f"{request.method} {path}"


def tar_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def all_that_a_build_does(url: str, directory: Path) -> None:
    build_id, key = f"test{secrets.token_hex(11)}", f"test-{secrets.token_hex(6)}"
    engine = Engine(url, Limits(128 << 20, 1.0, 64))
    try:
        engine.identity()
        engine.architecture()
        image = engine.import_root(busybox_root(directory), key)
        with engine.build_container(image, build_id, {}, secrets=True) as container:
            deadline = time.monotonic() + 60
            container.put(tar_of("etc/x"))
            container.exists("/etc/x")
            container.read("/etc/passwd")
            with container.networked(), container.holding({"X": b"value-of-it"}, deadline):
                container.run(["true"], check=lambda: None, deadline=deadline)
            container.kill()
            for _ in container.export():
                pass
            assert engine.builds_with_leftovers()
        with engine.trial_container(image, build_id, ["/bin/sh", "-c", "sleep 60"]) as container:
            container.start()
            container.address()
            container.exit_code()
            container.output()
            engine.remove_leftovers(build_id)
        with running_registry(directory) as registry:
            reference = f"{registry}/nothing@sha256:{'0' * 64}"
            with pytest.raises(BaseUnavailable):
                engine.pull(reference)
            engine.forget(reference)
        engine.size(f"goldsmith-cache:{key}")
        engine.remove_unused(f"goldsmith-cache:{key}")
    finally:
        engine.remove_leftovers(build_id)
        engine.close()


def test_the_list_for_a_proxy_is_what_is_asked(
    docker_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str] = set()
    send = requests.Session.send

    def recording(self: Any, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if isinstance(self, docker.APIClient):
            asked.add(call_of(request))
        return send(self, request, **options)

    monkeypatch.setattr(requests.Session, "send", recording)
    all_that_a_build_does(docker_engine, tmp_path)
    listed = set(re.findall(r"^    ((?:GET|HEAD|PUT|POST|DELETE) /\S+)$", GUIDE.read_text(), re.M))
    assert "\n".join(sorted(asked)) == "\n".join(sorted(listed))
