"""What `goldsmith recipe new` writes is released as it stands, on hosts that `goldsmith doctor` finds well."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from builder.recipes.catalogue import read_recipe_file
from scripts.stack.services import ROOT
from tests.end_to_end.world import Goldsmith, Released


def test_a_first_recipe_is_released(goldsmith: Goldsmith, shipped: Callable[[str], Released], tmp_path: Path) -> None:
    shipped("debian")
    line = ["recipe", "new", "first", "--base", "recipe:debian", "--package", "busybox", "--port", "8080", "--no-ask"]
    line += ["--command", "/bin/busybox httpd -f -p 8080", "--repository", "my/first"]
    subprocess.run(
        [sys.executable, "-m", "builder.cli", *line], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True
    )
    recipe = read_recipe_file(tmp_path / "first.yaml").model_dump(mode="json", by_alias=True, exclude_defaults=True)
    found = goldsmith.release(recipe)
    assert found.build["result"]["tests"] == 2


def test_the_doctor_finds_a_running_goldsmith_well(goldsmith: Goldsmith) -> None:
    for role in ("api", "build", "scan", "release", "dispatcher", "client"):
        environment = goldsmith.stack.environment(role) | {
            "GOLDSMITH_CLIENT_CONFIG": str(goldsmith.stack.client_config),
            "PYTHONPATH": str(ROOT),
        }
        line = [sys.executable, "-m", "builder.cli", "doctor", "--role", role, "--json"]
        ended = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{role}: {ended.stdout}{ended.stderr}"
        checks = {one["name"]: one["state"] for one in json.loads(ended.stdout)["checks"]}
        assert "fail" not in checks.values(), checks
