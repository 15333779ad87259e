"""An engine that would let a limit go, or whose networks are elsewhere, is not built with; another runtime is."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from builder.engine.docker import Engine
from builder.errors import SettingsInvalid
from tests.integration.busybox import LIMITS
from tests.integration.own_engine import CRUN, own_engine


def test_another_runtime(root: Path, build_id: str) -> None:
    with own_engine(*CRUN) as own, closing(Engine(own.url, LIMITS, runtime="crun")) as named:
        image = named.import_root(root, build_id)
        with named.build_container(image, build_id, {}) as container:
            assert container.run(["true"], check=lambda: None, deadline=time.monotonic() + 20).exit_code == 0
            assert container._inspect()["HostConfig"]["Runtime"] == "crun"
        assert named.identity().endswith("runtime crun")


def test_where_networks_are_elsewhere_no_server_is_asked(root: Path, build_id: str) -> None:
    """An address of theirs may be somebody's here."""
    with own_engine(apart=True) as own, closing(Engine(own.url, LIMITS)) as engine:
        image = engine.import_root(root, build_id)
        with (
            pytest.raises(SettingsInvalid, match=r"GOLDSMITH_ENGINE_URL: .*not on this host") as told,
            engine.trial_container(image, build_id),
        ):
            pytest.fail("nothing is asked")
        assert "run the build worker where they are" in (told.value.hint or "")
        with engine.trial_container(image, build_id, ["sh", "-c", "sleep 60"]) as container:
            assert container.run(["true"], check=lambda: None, deadline=time.monotonic() + 20).exit_code == 0
        assert engine.builds_with_leftovers() == set()


@pytest.mark.parametrize("word", [False, None])
@pytest.mark.parametrize(
    ("told", "what"),
    [("MemoryLimit", "memory"), ("SwapLimit", "swap"), ("PidsLimit", "processes"), ("CpuCfsQuota", "processors")],
)
def test_an_engine_that_says_it_holds_nobody_to_a_limit_is_refused(
    engine: Engine,
    image: str,
    build_id: str,
    told: str,
    what: str,
    word: bool | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its word is changed, for what cannot run here: a rootless engine on control groups of version 1."""
    monkeypatch.setitem(engine._about, told, word)
    for container in (
        engine.build_container(image, build_id, {}),
        engine.trial_container(image, build_id, ["sh"]),
    ):
        with pytest.raises(SettingsInvalid, match=f"GOLDSMITH_ENGINE_URL: .*limit the {what} of"), container:
            pytest.fail("nothing starts")
