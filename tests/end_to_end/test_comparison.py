"""Untouched containers of the recipes that ship are what was released: no entry is left unexplained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.forensics.report import Report
from tests.end_to_end.world import Goldsmith, Released
from tests.integration.published import archive


@pytest.mark.parametrize("recipe", ["debian", "web", "python"])
def test_an_untouched_container_of_a_shipped_recipe_has_expected_changes_only(
    goldsmith: Goldsmith, shipped: Callable[[str], Released], recipe: str
) -> None:
    image = shipped(recipe)
    goldsmith.engine.images.pull(image.reference.partition("@")[0], tag=image.digest)
    container = goldsmith.engine.containers.run(image.reference, detach=True, network_mode="none")
    try:
        report = Report.model_validate_json(goldsmith.run("compare", image.reference, container.id, "--json").stdout)
        assert report.verdict in ("identical", "expected-changes-only")
        assert (report.findings, report.weighing, report.complete) == ((), (), True)
    finally:
        container.remove(force=True)


def test_the_service_compares_what_is_sent_to_it_and_keeps_the_report(
    goldsmith: Goldsmith, web: Released, tmp_path: Path
) -> None:
    goldsmith.engine.images.pull(web.reference.partition("@")[0], tag=web.digest)
    container = goldsmith.engine.containers.create(web.reference)
    try:
        goldsmith.run("inventory", f"container:{container.id}", "-o", str(tmp_path / "before.jsonl.zst"))
        container.put_archive("/usr/bin", archive({"planted": b"evil"}))
        with (tmp_path / "after.tar").open("wb") as out:
            out.writelines(container.export())
    finally:
        container.remove(force=True)
    done = goldsmith.run("compare", "--remote", web.reference, str(tmp_path / "before.jsonl.zst"), "--json")
    report = Report.model_validate_json(done.stdout)
    assert report.verdict in ("no-difference-seen", "expected-changes-only")
    assert report.unproven == ("how the container was started: an inventory has no configuration",)
    done = goldsmith.run("compare", "--remote", web.digest, str(tmp_path / "after.tar"), "--json", check=False)
    found = Report.model_validate_json(done.stdout)
    assert {one.path for one in found.findings} == {"/usr/bin/planted"}
    assert done.returncode == (3 if found.verdict == "suspicious" else 2)
    assert "identical to its golden image" in goldsmith.run("compare", "--remote", web.digest, web.reference).stdout
    page = goldsmith.api.get(f"/v1/images/{web.digest}/comparisons").json()["comparisons"]
    assert [one["subject"]["kind"] for one in page] == ["image", "archive", "inventory"]
    html = goldsmith.api.get(f"/v1/comparisons/{page[1]['id']}/report", headers={"Accept": "text/html"})
    assert "/usr/bin/planted" in html.text
    uploads = goldsmith.stack.state / "registry/docker/registry/v2/repositories/staging/comparisons/_layers"
    assert list(uploads.glob("sha256/*/link")) == []
    for left in ("uploads", "spool"):
        assert list((goldsmith.stack.state / "state" / left).iterdir()) == []


def test_the_service_says_why_it_could_not_compare(goldsmith: Goldsmith, web: Released, tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"not an archive".ljust(1024))
    done = goldsmith.run("compare", "--remote", web.digest, str(tmp_path / "no.tar"), check=False)
    assert done.returncode == 1
    assert "failed: " in done.stderr
    assert goldsmith.run("compare", "--remote", web.digest, "container:x", check=False).returncode == 1
