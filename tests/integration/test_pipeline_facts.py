"""What the gate judges by is gathered from what is really staged; and an engine makes of it what the facts say."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import pytest

from builder.errors import Broken
from builder.image.canonical import canonicalise
from builder.image.inventory import MEDIA_TYPE
from builder.pipeline.composing import Composed, compose
from builder.pipeline.demanded import updates_pending
from builder.pipeline.evidence import BuildEvidence
from builder.pipeline.facts import gather
from builder.pipeline.journal import Journal
from builder.pipeline.preparing import Prepared
from builder.pipeline.services import Services
from builder.pipeline.stage import Task
from builder.pipeline.watch import Watch
from builder.planning.lock import Lock, LockedBase
from builder.policy.facts import Facts, Update
from builder.policy.rules import RULES
from builder.process import run
from builder.recipes.model import Recipe
from builder.scanning.findings import Findings, OperatingSystem, Package, ScanResult
from builder.store import attachments, builds
from builder.store.attachments import Kind
from builder.store.builds import Submission
from builder.store.journal import steps_of
from builder.store.states import BUILD
from tests.integration.busybox import busybox_root
from tests.integration.registry_server import free_port
from tests.unit.evidence import build_evidence
from tests.unit.judged import DATABASE, NOW, facts
from tests.unit.test_pipeline_composing import EPOCH, base_of, composed, recipe

pytest_plugins = ["tests.integration.pipeline_services"]

SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
FILES = {
    "etc/passwd": b"root:x:0:0::/root:/bin/bash\napp:x:10001:10001::/srv:/usr/sbin/nologin\n",
    "etc/shadow": b"root:*:1::::::\napp:$y$hash:1::::::\n",
    "srv/.bash_history": b"mysql -p" + SECRET.encode(),
    "usr/bin/sh": b"\x7fELF",
}


def task_for(services: Services, wanted: Recipe) -> Task:
    with services.database.write() as session:
        build = builds.submit(session, Submission("web", "sha256:" + "1" * 64, "{}", "request", "ci"))
        claim = builds.claim(session, build.id, BUILD, "w", 60)
        assert claim
    journal = Journal(services.database, claim, 4096)
    return Task(build, wanted, None, claim, journal, Watch(services.database, claim, journal, 60))


class TestGathering:
    def staged(self, services: Services, directory: Path, **spec: Any) -> tuple[Task, Composed, BuildEvidence]:
        """An image in staging, as the build worker leaves it."""
        wanted = recipe(
            user="app", ports=["8080"], entrypoint=["/usr/bin/app", SECRET], environment={"TOKEN": SECRET},
            hardening={"keepSetuid": ["/usr/bin/su"]}, **spec,
        )  # fmt: skip
        image, task = composed(directory, wanted, FILES), task_for(services, wanted)
        services.registry.images.push(services.staging("golden/web"), image.manifest, image.blobs)
        inventory = image.inventory.path.read_bytes()
        with services.database.write() as session:
            attachments.attach(session, task.build.id, Kind.INVENTORY, MEDIA_TYPE, inventory)
        lock = Lock(
            builder="goldsmith 0", epoch=EPOCH, requested=build_evidence().lock.requested,
            base=LockedBase(suite="trixie", architecture="amd64", image="sha256:" + "7" * 64, recipe="debian"),
        )  # fmt: skip
        built = build_evidence(image.manifest_digest, lock)
        return (
            task,
            image,
            built.model_copy(
                update={"accounts": image.accounts, "base_epoch": EPOCH, "updates": (), "reproduced": True}
            ),
        )

    def scanned(self, digest: str) -> ScanResult:
        package = Package(name="hello", version="1")
        return ScanResult(
            reference=f"r/staging/golden/web@{digest}", findings=Findings(), package_count=1,
            operating_system=OperatingSystem(family="debian", name="13"), report=b"", cyclonedx=b"", spdx=b"",
            scanner=facts().scanner, database=DATABASE, started_at=NOW, seconds=1, packages=(package,), covered=True,
        )  # fmt: skip

    def gathered(self, services: Services, directory: Path, **spec: Any) -> Facts:
        task, image, built = self.staged(services, directory, **spec)
        return gather(services, task, built, self.scanned(image.manifest_digest))

    def test_everything_is_there(self, services: Services, tmp_path: Path) -> None:
        found = self.gathered(services, tmp_path / "image", healthcheck={"command": ["/usr/bin/app", "--well", SECRET]})
        image = found.image
        assert image is not None
        assert (image.user, image.uid, image.healthcheck) == ("app", 10001, True)
        assert (image.entrypoint, image.command, image.ports) == ("/usr/bin/app", None, ("8080/tcp",))
        assert set(image.environment) == {"PATH", "TOKEN"}
        assert image.created == datetime.fromtimestamp(EPOCH, UTC)
        assert found.accounts is not None
        assert [(one.name, one.password) for one in found.accounts] == [("root", "locked"), ("app", "set")]
        assert found.files is not None
        assert [one.path for one in found.files.histories.found] == ["/srv/.bash_history"]
        assert [one.path for one in found.files.shells.found] == ["/usr/bin/sh"]
        assert found.files.unpacked_bytes == sum(map(len, FILES.values()))
        assert found.base is not None
        assert (found.base.recipe, found.base.image, found.base.digest) == ("debian", None, "sha256:" + "7" * 64)
        assert found.base.created == datetime.fromtimestamp(EPOCH, UTC)
        assert (found.kept_setuid, found.hermetic, found.reproduced) == (("/usr/bin/su",), True, True)
        assert [one.name for one in found.tests] == ["command true"]
        missing = [rule.name for rule in RULES.values() if "Nobody has looked" in _explained(rule.name, found)]
        assert missing == [], "every rule has the facts that it needs"

    def test_no_value_that_could_be_secret_is_in_the_facts(self, services: Services, tmp_path: Path) -> None:
        told = self.gathered(services, tmp_path / "image", healthcheck={"command": ["/usr/bin/app", SECRET]}).to_bytes()
        assert SECRET.encode() not in told
        assert b"hash" not in told

    def test_an_image_without_a_health_check_has_none(self, services: Services, tmp_path: Path) -> None:
        image = self.gathered(services, tmp_path / "image").image
        assert image is not None
        assert not image.healthcheck

    def test_as_many_packages_are_expected_as_dpkg_lists(self, services: Services, tmp_path: Path) -> None:
        task, image, built = self.staged(services, tmp_path / "image")
        many = built.model_copy(update={"image": built.image.model_copy(update={"packages": 91})})
        assert gather(services, task, many, self.scanned(image.manifest_digest)).packages_expected == 91

    def test_without_an_inventory_nothing_is_judged(self, services: Services, tmp_path: Path) -> None:
        task, image, built = self.staged(services, tmp_path / "image")
        other = task_for(services, task.recipe)
        with pytest.raises(Broken, match="no inventory"):
            gather(services, other, built, self.scanned(image.manifest_digest))


def _explained(name: str, found: Facts) -> str:
    return RULES[name].apply(found, RULES[name].parameters()).explanation


class TestPendingUpdates:
    OLD = b"Package: base-files\nStatus: install ok installed\nVersion: 13.0\nArchitecture: amd64\n\n"

    def pending(
        self, services: Services, directory: Path, status: bytes, *, suite: str = "trixie", release: str = "trixie"
    ) -> tuple[tuple[Update, ...] | None, str]:
        """What is told of an image with this status, and the step's summary. Without a suite in the lock the base
        itself is asked, which says to be of `release`."""
        wanted, task = recipe(), None
        files = {"etc/os-release": f"VERSION_CODENAME={release}\n".encode(), "var/lib/dpkg/status": status}
        image = composed(directory, wanted, {name: content for name, content in files.items() if content})
        task = task_for(services, wanted)
        base = None
        if not suite:
            place = services.released("golden/debian")
            services.registry.images.push(place, image.manifest, image.blobs)
            made = base_of(directory, image)
            base = type(made)(place, made.digest, made.manifest, made.config, made.entries, None)
        lock = build_evidence().lock.model_copy(
            update={"base": LockedBase(suite=suite, architecture="amd64", image=image.manifest_digest)}
        )
        found = updates_pending(services, task, image, Prepared("", base, lock, None))
        with services.database.read() as session:
            (step,) = steps_of(session, task.build.id)
        return found, step.summary or ""

    def test_what_is_old_is_told_by_the_real_archive(self, services: Services, tmp_path: Path) -> None:
        found, summary = self.pending(services, tmp_path / "image", self.OLD)
        assert found is not None
        assert [(one.package, one.installed) for one in found] == [("base-files", "13.0")]
        assert summary.startswith("1 pending")

    def test_what_is_newer_than_the_archive_is_not(self, services: Services, tmp_path: Path) -> None:
        assert self.pending(services, tmp_path / "image", self.OLD.replace(b"13.0", b"99"))[0] == ()

    def test_where_the_lock_names_no_suite_the_base_does(self, services: Services, tmp_path: Path) -> None:
        found, _ = self.pending(services, tmp_path / "image", self.OLD, suite="")
        assert found is not None
        assert [one.package for one in found] == ["base-files"]

    @pytest.mark.parametrize("release", ["no suite", "atlantis"])
    def test_a_base_that_names_none_that_the_archive_has_is_undetermined(
        self, services: Services, tmp_path: Path, release: str
    ) -> None:
        found, summary = self.pending(services, tmp_path / "image", self.OLD, suite="", release=release)
        assert found is None
        assert summary.startswith("undetermined: ")
        assert release in summary

    def test_an_image_that_does_not_say_what_is_installed_is_undetermined(
        self, services: Services, tmp_path: Path
    ) -> None:
        found, summary = self.pending(services, tmp_path / "image", b"")
        assert found is None
        assert "/var/lib/dpkg/status" in summary

    def test_an_archive_that_does_not_answer_leaves_it_undetermined(self, services: Services, tmp_path: Path) -> None:
        nowhere = f"http://127.0.0.1:{free_port()}/debian"
        settings = services.settings.model_copy(
            update={"debian_mirror": nowhere, "debian_security_mirror": nowhere, "state_directory": tmp_path / "other"}
        )
        found, summary = self.pending(Services(settings), tmp_path / "image", self.OLD)
        assert found is None
        assert summary.startswith("undetermined: ")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busybox_root(tmp_path_factory.mktemp("busybox"))


class TestHealthcheck:
    """A recipe's `spec.healthcheck` is what the real engine reads, runs and believes."""

    def pushed(self, services: Services, root: Path, directory: Path, **spec: Any) -> str:
        directory.mkdir()
        architecture = run(["dpkg", "--print-architecture"], timeout=10).stdout.decode().strip()
        with root.open("rb") as tar, canonicalise(tar, spool_dir=directory, epoch=EPOCH) as tree:
            image = compose(recipe(command=["sleep", "60"], **spec), tree, None, architecture, directory)
        place = services.released("golden/health")
        services.registry.images.push(place, image.manifest, image.blobs)
        return str(place.at(image.manifest_digest))

    @pytest.mark.parametrize(("ends", "status"), [(0, "healthy"), (1, "unhealthy")])
    def test_an_engine_runs_it_and_says_how_the_container_is(
        self, services: Services, root: Path, tmp_path: Path, docker_engine: str, ends: int, status: str
    ) -> None:
        check = {"command": ["sh", "-c", f"exit {ends}"], "intervalSeconds": 1, "timeoutSeconds": 5, "retries": 1}
        reference = self.pushed(services, root, tmp_path / "image", healthcheck=check)
        engine = docker.DockerClient(base_url=docker_engine)
        image = engine.images.pull(reference)
        try:
            assert image.attrs["Config"]["Healthcheck"] == {
                "Test": ["CMD", "sh", "-c", f"exit {ends}"], "Interval": 10**9, "Timeout": 5 * 10**9, "Retries": 1,
            }  # fmt: skip
            container = engine.containers.run(reference, detach=True)
            try:
                deadline, found = time.monotonic() + 30, "starting"
                while found == "starting":
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
                    container.reload()
                    found = container.attrs["State"]["Health"]["Status"]
                assert found == status
            finally:
                container.remove(force=True)
        finally:
            engine.images.remove(reference, force=True)
            engine.close()
