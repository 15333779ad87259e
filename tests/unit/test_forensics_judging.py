"""Each difference is judged by documented rules: how grave it is, why, and what no expected place excuses."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder.forensics.expected import Expectation, mount_points, writable
from builder.forensics.findings import Difference, Finding, Kind
from builder.forensics.judging import judge_with
from builder.forensics.rules import RulesInvalid, load_rules, shipped_rules
from builder.image.entry import Entry, EntryType
from builder.image.inventory import Package

A, B = "a" * 64, "b" * 64
TOOL = Package("tool", "1.0")
CAPABILITY = ((b"security.capability", b"x"),)


def file(path: str, mode: int = 0o644, **fields: object) -> Entry:
    return replace(Entry(path.encode(), EntryType.FILE, mode, 0, 0, size=1, sha256=A), **fields)  # type: ignore[arg-type]


def added(path: str, mode: int = 0o644, **fields: object) -> Difference:
    return Difference(path.encode(), (Kind.ADDED,), None, file(path, mode, **fields))


def changed(path: str, mode: int = 0o644, package: Package | None = None) -> Difference:
    return Difference(path.encode(), (Kind.CONTENT,), file(path, mode), file(path, mode, sha256=B), package)


def removed(path: str, mode: int = 0o644, package: Package | None = None) -> Difference:
    return Difference(path.encode(), (Kind.REMOVED,), file(path, mode), None, package)


def mode(path: str, before: int, after: int) -> Difference:
    return Difference(path.encode(), (Kind.MODE,), file(path, before), file(path, after))


def moved(before: str, after: str, bits: int = 0o644) -> Difference:
    return Difference(after.encode(), (Kind.MOVED,), file(before, bits), file(after, bits), moved_from=before.encode())


def linked(before: Entry, after: Entry) -> Difference:
    return Difference(after.path, (Kind.LINK,), before, after, TOOL)


def judged(difference: Difference, *expectations: Expectation) -> Finding:
    return judge_with(shipped_rules(), expectations)(difference)


DEVICE = Entry(b"srv/disk", EntryType.BLOCK, 0o600, 0, 0, device=(8, 0))
SU = file("usr/bin/su", 0o4755)
REGROUPED = replace(SU, type=EntryType.HARDLINK, target=b"srv/su")
LINK = Entry(b"usr/bin/sh", EntryType.SYMLINK, 0o777, 0, 0, target=b"dash")


@pytest.mark.parametrize(
    ("difference", "rule", "severity"),
    [
        (added("usr/bin/x", 0o4755), "set-id.gained", "critical"),
        (mode("usr/bin/find", 0o755, 0o4755), "set-id.gained", "critical"),
        (mode("usr/bin/wall", 0o755, 0o2755), "set-id.gained", "critical"),
        (changed("usr/bin/su", 0o4755, TOOL), "set-id.changed", "critical"),
        (mode("usr/bin/su", 0o4755, 0o755), "mode.changed", "medium"),
        (moved("usr/bin/su", "srv/su", 0o4755), "set-id.gained", "critical"),
        (
            Difference(b"usr/bin/py", (Kind.CAPABILITY,), file("x"), file("x", xattrs=CAPABILITY)),
            "capability.gained",
            "critical",
        ),
        (
            Difference(
                b"x", (Kind.CAPABILITY,), file("x", xattrs=((CAPABILITY[0][0], b"y"),)), file("x", xattrs=CAPABILITY)
            ),
            "capability.changed",
            "critical",
        ),
        (
            Difference(b"x", (Kind.CAPABILITY,), file("x", xattrs=CAPABILITY), file("x")),
            "attribute.changed",
            "low",
        ),
        (Difference(b"srv/disk", (Kind.ADDED,), None, DEVICE), "device.new", "critical"),
        (
            Difference(b"srv/k", (Kind.ADDED,), None, replace(DEVICE, path=b"srv/k", type=EntryType.HARDLINK)),
            "device.new",
            "critical",
        ),
        (
            Difference(b"usr/bin/su", (Kind.LINK,), file("usr/bin/su", 0o4755), REGROUPED, TOOL),
            "hardlink.regrouped",
            "low",
        ),
        (
            Difference(b"usr/bin/su", (Kind.LINK,), REGROUPED, file("usr/bin/su", 0o4755), TOOL),
            "hardlink.regrouped",
            "low",
        ),
        (
            Difference(b"usr/bin/su", (Kind.CONTENT, Kind.LINK), file("x", 0o4755), REGROUPED),
            "set-id.changed",
            "critical",
        ),
        (
            Difference(b"bin", (Kind.LINK,), replace(LINK, path=b"bin"), replace(LINK, path=b"bin", target=b"/data")),
            "program.places",
            "critical",
        ),
        (added("etc/ld.so.preload"), "loader.preload", "critical"),
        (added("etc/ld.so.conf.d/x.conf"), "loader.paths", "high"),
        (changed("etc/passwd"), "accounts.password", "critical"),
        (changed("etc/shadow"), "accounts.password", "critical"),
        (changed("etc/group"), "accounts.group", "high"),
        (changed("etc/subuid"), "accounts.group", "high"),
        (added("etc/sudoers.d/me"), "sudoers", "critical"),
        (changed("etc/pam.d/sshd"), "pam", "critical"),
        (added("usr/lib/x86_64-linux-gnu/security/pam_evil.so"), "pam", "critical"),
        (added("home/app/.ssh/authorized_keys"), "ssh.keys", "critical"),
        (added("root/.ssh/authorized_keys"), "ssh.keys", "critical"),
        (changed("etc/ssh/sshd_config"), "ssh.configuration", "high"),
        (added("usr/local/share/ca-certificates/evil.crt"), "trust.certificates", "critical"),
        (added("etc/cron.d/job"), "persistence.cron", "critical"),
        (added("var/spool/cron/crontabs/root"), "persistence.cron", "critical"),
        (added("etc/systemd/system/x.timer"), "persistence.systemd", "critical"),
        (added("etc/init.d/x", 0o755), "persistence.init", "critical"),
        (added("etc/profile.d/x.sh"), "persistence.shell", "high"),
        (changed("etc/environment"), "persistence.shell", "high"),
        (added("root/.bashrc"), "persistence.shell", "high"),
        (added("usr/lib/python3/dist-packages/x.pth"), "persistence.python", "high"),
        (added("etc/apt/apt.conf.d/99x"), "persistence.hooks", "high"),
        (changed("etc/apt/sources.list"), "packages.sources", "high"),
        (changed("var/lib/dpkg/info/bash.postinst", 0o755), "packages.scripts", "high"),
        (changed("var/lib/dpkg/status"), "packages.database", "medium"),
        (added("tmp/x", 0o755), "temporary.executable", "critical"),
        (added("var/tmp/x", 0o755), "temporary.executable", "critical"),
        (added("dev/shm/x", 0o755), "temporary.executable", "critical"),
        (added("dev/shm/loot"), "temporary.hidden", "high"),
        (added("tmp/.X11-unix/x"), "temporary.hidden", "high"),
        (added("proc/x"), "mounts.hidden", "high"),
        (moved("usr/bin/curl", "srv/c", 0o755), "program.moved", "high"),
        (changed("usr/sbin/nginx", 0o755, TOOL), "program.replaced", "critical"),
        (added("srv/x.so.1"), "library.changed", "critical"),
        (added("usr/local/bin/ls", 0o755), "program.new", "high"),
        (Difference(b"usr/bin/sh", (Kind.LINK,), LINK, replace(LINK, target=b"/tmp/x")), "program.new", "high"),
        (removed("usr/bin/ps", 0o755, TOOL), "program.removed", "medium"),
        (added("srv/run", 0o755), "executable.new", "high"),
        (mode("srv/data", 0o644, 0o755), "executable.made", "high"),
        (changed("usr/share/tool/main.py", package=TOOL), "code.changed", "high"),
        (added("srv/www/shell.php"), "code.new", "medium"),
        (mode("etc/tool.conf", 0o644, 0o666), "world-writable.gained", "high"),
        (removed("var/log/auth.log"), "logs.removed", "medium"),
        (added("var/log/app.log"), "logs.written", "low"),
        (added("root/.bash_history"), "history", "medium"),
        (added("usr/share/.x"), "hidden.new", "high"),
        (added("usr/lib/..."), "hidden.new", "high"),
        (added(".x"), "hidden.top", "high"),
        (added("tmp/x"), "temporary.new", "low"),
        (added("usr/lib/python3/x/__pycache__/a.pyc"), "other", "low"),
        (changed("etc/motd"), "configuration.changed", "medium"),
        (changed("usr/share/doc/x", package=TOOL), "packaged.changed", "medium"),
        (changed("srv/www/index.html"), "other", "low"),
    ],
    ids=lambda value: value.path.decode() if isinstance(value, Difference) else None,
)
def test_what_a_responder_has_to_know_is_told_with_its_gravity(
    difference: Difference, rule: str, severity: str
) -> None:
    found = judged(difference)
    assert (found.rule, str(found.severity), found.expected) == (rule, severity, None)
    assert len(found.reason) > 20


def test_every_shipped_rule_says_why_and_the_last_fits_everything() -> None:
    last = shipped_rules()[-1]
    assert (last.where, last.when.model_dump(exclude_defaults=True)) == ([], {})
    assert all(rule.reason.endswith(".") for rule in shipped_rules())


def test_a_sticky_directory_for_all_is_not_what_world_writable_means() -> None:
    sticky = Entry(b"srv/drop", EntryType.DIRECTORY, 0o1777, 0, 0)
    assert judged(Difference(b"srv/drop", (Kind.ADDED,), None, sticky)).rule == "other"
    open_to_all = replace(sticky, mode=0o777)
    assert judged(Difference(b"srv/drop", (Kind.ADDED,), None, open_to_all)).rule == "world-writable.gained"


class TestExpectedPlaces:
    WRITES = writable(["/tmp", "/var/lib/app", "/root"], "the recipe says that containers write here")

    def test_data_there_is_expected_and_its_reason_told(self) -> None:
        found = judged(added("var/lib/app/db"), *self.WRITES)
        assert found.expected == "the recipe says that containers write here"

    @pytest.mark.parametrize(
        "difference",
        [
            added("tmp/x", 0o4755),
            added("tmp/x", xattrs=CAPABILITY),
            added("tmp/x", 0o755),
            added("var/lib/app/x", 0o755),
            added("var/lib/app/x.so"),
            added("root/.ssh/authorized_keys"),
            moved("usr/bin/curl", "var/lib/app/c", 0o755),
            moved("usr/share/data", "var/lib/app/data"),
            Difference(b"tmp/disk", (Kind.ADDED,), None, replace(DEVICE, path=b"tmp/disk")),
        ],
        ids=lambda one: one.path.decode(),
    )
    def test_they_excuse_no_program_no_key_no_device_and_nothing_taken_from_elsewhere(
        self, difference: Difference
    ) -> None:
        assert judged(difference, *self.WRITES).expected is None

    def test_not_even_a_rule_of_ones_own_excuses_a_set_uid_program(self, tmp_path: Path) -> None:
        mine = rules_file(tmp_path, "  - {id: all, severity: info, reason: Fine with us.}\n")
        judge = judge_with(load_rules(mine), self.WRITES)
        assert judge(added("tmp/x")).expected is not None
        assert judge(added("tmp/x", 0o4755)).expected is None

    def test_the_root_is_never_a_place_to_write(self) -> None:
        assert writable(["/"], "all of it") == ()

    def test_what_an_engine_writes_is_told_as_that(self) -> None:
        found = judged(added("etc/hostname", size=0))
        assert (found.rule, found.expected) == ("engine", "written by the container engine")

    @pytest.mark.parametrize(
        "planted",
        [
            Difference(b".dockerenv", (Kind.ADDED,), None, Entry(b".dockerenv", EntryType.DIRECTORY, 0o755, 0, 0)),
            Difference(b".dockerenv/k", (Kind.ADDED,), None, replace(DEVICE, path=b".dockerenv/k")),
            Difference(b"dev/mem", (Kind.ADDED,), None, replace(DEVICE, path=b"dev/mem", type=EntryType.CHARACTER)),
            Difference(b"dev/.x", (Kind.ADDED,), None, Entry(b"dev/.x", EntryType.DIRECTORY, 0o755, 0, 0)),
            added("etc/resolv.conf", 0o777),
        ],
        ids=lambda planted: planted.path.decode(),
    )
    def test_what_no_engine_writes_is_not_excused_by_its_place(self, planted: Difference) -> None:
        assert judged(planted).expected is None

    def test_an_engine_makes_places_to_mount_on_and_nothing_in_them(self) -> None:
        points = mount_points(["/data/deep", "/etc/app.conf"])
        directory = Entry(b"data", EntryType.DIRECTORY, 0o755, 0, 0)
        for path in (b"data", b"data/deep"):
            made = Difference(path, (Kind.ADDED,), None, replace(directory, path=path))
            assert judged(made, *points).expected == "made by the container engine to mount on"
        assert judged(added("etc/app.conf", size=0), *points).expected
        assert judged(added("etc/app.conf", size=5), *points).expected is None
        assert judged(added("data/deep/x"), *points).expected is None
        assert judged(added("data/x", size=0), *points).expected is None


def rules_file(directory: Path, text: str) -> Path:
    path = directory / "rules.yaml"
    path.write_text("format: goldsmith-comparison-rules/v1\nrules:\n" + text)
    return path


class TestOwnRules:
    def test_they_come_before_the_shipped_ones(self, tmp_path: Path) -> None:
        mine = rules_file(
            tmp_path,
            "  - id: ours.app\n    severity: info\n    where: ['srv/app/**']\n"
            "    when: {kinds: [added], types: [file]}\n    reason: Our updater does this.\n",
        )
        judge = judge_with(load_rules(mine))
        assert judge(added("srv/app/x", 0o755)).rule == "ours.app"
        assert judge(added("srv/x", 0o755)).rule == "executable.new"

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (
                "  - {id: a, severity: grave, reason: x}\n",
                "line 3, column 13: rules[0].severity: must be one of info, low",
            ),
            ("  - {id: a, severity: low, reason: x, were: [x]}\n", "rules[0].were: unknown key"),
            ("  - {id: a, severity: low}\n", "rules[0].reason: Field required"),
            ("  - {id: a, severity: low, reason: x, where: [/etc]}\n", "without a slash at its beginning"),
            ("  - {id: a, severity: low, reason: x, where: ['a/**/b']}\n", "'**' stands for"),
            (
                "  - {id: a, severity: low, reason: x, when: {kinds: [new]}}\n",
                "rules[0].when.kinds[0]: must be one of added, ",
            ),
            ("  - {id: a, severity: low, reason: x}\n" * 2, "rules[1].id: 'a' is the id of another rule too"),
            ("  - &x {id: a, severity: low, reason: x}\n", "anchors and aliases are not allowed"),
            ("  - {id: a, severity: 4, reason: x}\n", "rules[0].severity"),
        ],
    )
    def test_a_fault_is_told_with_file_line_and_field(self, tmp_path: Path, text: str, told: str) -> None:
        with pytest.raises(RulesInvalid) as refused:
            load_rules(rules_file(tmp_path, text))
        assert told in refused.value.detail
        assert "rules.yaml" in refused.value.detail

    def test_a_file_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(RulesInvalid, match="No such file"):
            load_rules(tmp_path / "none.yaml")
