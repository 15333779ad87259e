"""`goldsmith rebuild`: what is said of an image that was rebuilt, to people and to machines."""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from builder.cli.main import main
from builder.errors import Fault, Problem
from builder.image.layer import Compression
from builder.pipeline.evidence import Attestation, DifferingPath, Matched, RebuildEvidence
from builder.pipeline.rebuild import NotReproduced
from builder.store import builds
from builder.store.states import REBUILD
from tests.unit.cli_commands import command, environment, newest, playing, submitted
from tests.unit.cli_server import IMAGE, OTHER, Api, Worker, running_api

Output = pytest.CaptureFixture[str]
REBUILDER = "https://sandbox.invalid/rebuilder"
ATTESTED = Attestation(
    identity=REBUILDER, issuer="http://127.0.0.1:8090", log_index=8, sandbox=True, referrer="sha256:" + "77" * 32
)
SAME = RebuildEvidence(
    image_digest=IMAGE,
    rebuilt_digest=IMAGE,
    matched=Matched(manifest=True, config=True, diff_ids=True, inventory=True),
    compression_then=Compression(),
    compression_now=Compression(),
    paths=900,
    differences=(),
    differences_total=0,
    sources={"cache": 1, "the registry": 89},
    attestation=ATTESTED,
)


def differing(count: int, total: int | None = None) -> RebuildEvidence:
    paths = tuple(
        DifferingPath(path=f"/var/{n:04}", kinds=("content", "mode"), golden="a" * 64, rebuilt="b" * 64, package=None)
        for n in range(count)
    )
    owned = DifferingPath(path="/usr/bin/x", kinds=("removed",), golden="a" * 64, rebuilt=None, package="nginx 1.26.3")
    return SAME.model_copy(
        update={
            "rebuilt_digest": OTHER,
            "matched": Matched(manifest=False, config=False, diff_ids=False, inventory=False),
            "differences": (owned, *paths[1:]),
            "differences_total": total or count,
            "attestation": None,
        }
    )


def not_reproduced(evidence: RebuildEvidence) -> Problem:
    faults = [Fault(field=one.path, message="content differs") for one in evidence.differences[:20]]
    return NotReproduced("it was rebuilt as another", errors=faults, hint="a clock makes a difference").problem()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that has released IMAGE."""
    with running_api(tmp_path_factory.mktemp("api") / "state") as running:
        assert main(["build", "web", "--no-wait", "--url", running.url, "--key", running.key]) == 0
        running.worker(running.newest("web")).release(IMAGE)
        yield running


@pytest.fixture
def api(served: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Api:
    monkeypatch.chdir(tmp_path)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


def rebuilt(api: Api, part: Callable[[Worker], None], *options: str, image: str = IMAGE) -> int:
    with playing(api, "web", part):
        return main(["rebuild", image, *options])


def test_an_image_that_is_the_same_is_told_with_who_attests_it(api: Api, capsys: Output) -> None:
    assert rebuilt(api, lambda worker: worker.rebuild(SAME)) == 0
    out = capsys.readouterr().out
    assert "web/compare: done" in out
    assert out.partition("\n\n")[2].splitlines() == [
        f"reproduced   bit for bit: {IMAGE}",
        "materials    1 package from cache, 89 packages from the registry",
        f"attested by  SANDBOX, no real Sigstore: {REBUILDER} (issuer http://127.0.0.1:8090), log index 8",
        f"referrer     {ATTESTED.referrer}",
    ]


def test_the_next_command_is_given_where_the_registry_is_known(api: Api, capsys: Output) -> None:
    reference = f"127.0.0.1:5000/golden/web@{IMAGE}"
    named = f"127.0.0.1:5000/golden/web:latest@{IMAGE}"
    assert rebuilt(api, lambda worker: worker.rebuild(SAME), image=named) == 0
    assert capsys.readouterr().out.endswith(f"\nverify  goldsmith verify {reference} --rebuilder {REBUILDER}\n")


def test_the_same_content_compressed_otherwise_is_not_called_bit_for_bit(api: Api, capsys: Output) -> None:
    update = {"rebuilt_digest": OTHER, "matched": Matched(manifest=False, config=True, diff_ids=True, inventory=True)}
    assert rebuilt(api, lambda worker: worker.rebuild(SAME.model_copy(update=update))) == 0
    out = capsys.readouterr().out
    assert "reproduced   config and diff IDs match, the manifest does not: compressed by " in out
    assert "bit for bit: " not in out


def test_a_real_signature_carries_no_mark(api: Api, capsys: Output) -> None:
    real = SAME.model_copy(update={"attestation": ATTESTED.model_copy(update={"sandbox": False})})
    assert rebuilt(api, lambda worker: worker.rebuild(real)) == 0
    assert f"attested by  {REBUILDER} (issuer" in capsys.readouterr().out


def test_an_image_that_differs_is_2_and_each_path_is_told_once_on_standard_error(api: Api, capsys: Output) -> None:
    evidence = differing(3)
    assert rebuilt(api, lambda worker: worker.differ(evidence, not_reproduced(evidence))) == 2
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "",
        "failed: The rebuilt image differs",
        "  it was rebuilt as another",
        "  removed       /usr/bin/x  [nginx 1.26.3]",
        "  content,mode  /var/0001",
        "  content,mode  /var/0002",
        "  way out: a clock makes a difference",
        f"  log: goldsmith logs {newest(api, 'web')}",
    ]
    assert "/var/0001" not in told.out


def test_of_very_many_paths_the_first_are_told_and_the_rest_counted(api: Api, capsys: Output) -> None:
    evidence = differing(120, total=4000)
    assert rebuilt(api, lambda worker: worker.differ(evidence, not_reproduced(evidence))) == 2
    err = capsys.readouterr().err
    assert err.count("/var/") == 49
    assert "… and 3950 more; --json lists up to 120" in err


def test_for_machines_all_of_them_are_listed(api: Api, capsys: Output) -> None:
    evidence = differing(120, total=4000)
    assert rebuilt(api, lambda worker: worker.differ(evidence, not_reproduced(evidence)), "--json") == 2
    build = json.loads(capsys.readouterr().out)
    assert (build["purpose"], build["state"], build["subject"]) == ("rebuild", "failed", IMAGE)
    assert build["rebuild"]["matched"] == {"manifest": False, "config": False, "diffIds": False, "inventory": False}
    assert build["rebuild"]["differencesTotal"] == 4000
    assert len(build["rebuild"]["differences"]) == 120
    assert build["rebuild"]["differences"][0] == {
        "path": "/usr/bin/x", "kinds": ["removed"], "golden": "a" * 64, "rebuilt": None, "package": "nginx 1.26.3",
    }  # fmt: skip
    assert build["problem"]["type"] == "/problems/not-reproduced"


@pytest.mark.parametrize("evidence", [SAME, differing(3)], ids=["the same", "another"])
def test_what_machines_get_is_what_the_api_says(api: Api, capsys: Output, evidence: RebuildEvidence) -> None:
    def play(worker: Worker) -> None:
        if evidence is SAME:
            worker.rebuild(evidence)
        else:
            worker.differ(evidence, not_reproduced(evidence))

    rebuilt(api, play, "--json")
    told = json.loads(capsys.readouterr().out)
    url = f"{api.url}/v1/builds/{newest(api, 'web')}"
    asked = httpx.get(url, headers={"Authorization": f"Bearer {api.key}"}, trust_env=False).json()
    assert set(asked) - set(told) == set()
    assert told["rebuild"] == asked["rebuild"]
    assert told["steps"] == asked["steps"]


def test_a_rebuild_that_could_not_even_begin_says_why(api: Api, capsys: Output) -> None:
    problem = NotReproduced("the record names no materials").problem()
    assert rebuilt(api, lambda worker: worker.fail(problem, REBUILD)) == 2
    assert "the record names no materials" in capsys.readouterr().err


def test_only_what_the_registry_has_is_asked_for_with_offline(api: Api, capsys: Output) -> None:
    for options, expected in (([], False), (["--offline"], True)):
        assert main(["rebuild", IMAGE, "--no-wait", *options]) == 0
        with api.database.read() as session:
            build = builds.get(session, newest(api, "web") or "")
            assert (build.purpose, build.subject, build.options["offline"]) == ("rebuild", IMAGE, expected)


def test_without_waiting_it_says_how_to_follow(api: Api, capsys: Output) -> None:
    assert main(["rebuild", IMAGE, "--no-wait"]) == 0
    build = newest(api, "web")
    assert capsys.readouterr().out.splitlines() == [
        f"web: build {build} is queued",
        f"`goldsmith logs --follow {build}` follows it",
    ]
    assert main(["rebuild", IMAGE, "--no-wait", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "queued"


def test_an_image_that_was_never_released_is_told(api: Api, capsys: Output) -> None:
    assert main(["rebuild", OTHER]) == 1
    assert f"no image with the digest {OTHER} was released here" in capsys.readouterr().err


def test_ctrl_c_leaves_the_rebuild_alone_and_says_so(api: Api) -> None:
    known = newest(api, "web")
    child = subprocess.Popen(
        command("rebuild", IMAGE), env=environment(api), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    submitted(api, "web", known)
    assert child.stdout is not None
    assert "build" in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert f"`goldsmith cancel {newest(api, 'web')}` ends it" in err
    assert "Traceback" not in err


def test_a_rebuild_is_shown_and_listed_with_its_outcome(api: Api, capsys: Output) -> None:
    rebuilt(api, lambda worker: worker.rebuild(SAME))
    good = newest(api, "web") or ""
    evidence = differing(3)
    rebuilt(api, lambda worker: worker.differ(evidence, not_reproduced(evidence)))
    bad = newest(api, "web") or ""
    capsys.readouterr()
    assert main(["builds", "--limit", "2"]) == 0
    _, second, first = capsys.readouterr().out.splitlines()
    assert first.startswith(good)
    assert first.endswith(f"bit for bit: {IMAGE}")
    assert second.endswith("The rebuilt image differs")
    assert main(["show", good]) == 0
    shown = capsys.readouterr().out
    for line in ("purpose      rebuild", f"image        {IMAGE}", f"rebuilt      bit for bit: {IMAGE}"):
        assert f"\n{line}\n" in shown
    assert f"{REBUILDER} (issuer" in shown
    assert main(["show", bad]) == 0
    shown = capsys.readouterr().out
    assert "rebuilt    3 paths differ" in shown
    assert "  removed       /usr/bin/x  [nginx 1.26.3]" in shown


def test_nothing_in_an_outcome_can_act_on_the_terminal(api: Api, capsys: Output) -> None:
    escapes = "\x1b[2J\x9b2J\u202e"
    path = DifferingPath(path=f"/{escapes}", kinds=(escapes,), golden=None, rebuilt=None, package=escapes)
    evidence = differing(1).model_copy(update={"differences": (path,), "sources": {escapes: 1}})
    rebuilt(api, lambda worker: worker.differ(evidence, not_reproduced(evidence)))
    main(["show", newest(api, "web") or ""])
    attested = SAME.model_copy(update={"attestation": ATTESTED.model_copy(update={"identity": escapes})})
    rebuilt(api, lambda worker: worker.rebuild(attested))
    told = capsys.readouterr()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", told.out + told.err)
    assert told.out.count(r"\x1b[2J\x9b2J\u202e") >= 3
