"""Prometheus' own tool reads the alert rules and the scrape configuration that we ship, and our metrics."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from fastapi.testclient import TestClient

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]
DEPLOY = Path(__file__).resolve().parents[2] / "deploy/prometheus"


def promtool(*arguments: str, told: str | None = None) -> str:
    done = subprocess.run(["promtool", *arguments], input=told, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_rules_and_configuration_are_prometheus_own(tmp_path: Path) -> None:
    assert "7 rules found" in promtool("check", "rules", str(DEPLOY / "alerts.yaml"))
    shutil.copytree(DEPLOY, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "scrape.yaml"
    key = tmp_path / "goldsmith.key"
    key.write_text("gs_key")
    config.write_text(config.read_text().replace("/etc/prometheus/goldsmith.key", str(key)))
    assert "SUCCESS" in promtool("check", "config", str(config))


def test_it_reads_our_metrics(client: TestClient) -> None:
    client.get("/healthz")
    promtool("check", "metrics", told=client.get("/metrics").text)
