"""Untouched containers of the recipes that ship are what was released: no entry is left unexplained."""

from __future__ import annotations

import pytest

from builder.forensics.report import Report
from tests.end_to_end.world import Goldsmith


@pytest.mark.parametrize("recipe", ["debian", "web", "python"])
def test_an_untouched_container_of_a_shipped_recipe_has_expected_changes_only(
    goldsmith: Goldsmith, recipe: str
) -> None:
    image = goldsmith.release(recipe)
    goldsmith.engine.images.pull(image.reference.partition("@")[0], tag=image.digest)
    container = goldsmith.engine.containers.run(image.reference, detach=True, network_mode="none")
    try:
        report = Report.model_validate_json(goldsmith.run("compare", image.reference, container.id, "--json").stdout)
        assert report.verdict in ("identical", "expected-changes-only")
        assert (report.findings, report.weighing, report.complete) == ((), (), True)
    finally:
        container.remove(force=True)
