"""Who can log in to an image, as the C library and engines would read its files."""

from __future__ import annotations

import pytest

from builder.pipeline.facts import uid_of
from builder.policy.facts import Account
from builder.policy.logins import accounts_of

PASSWD = b"root:x:0:0:root:/root:/bin/bash\napp:x:10001:10001::/srv:/usr/sbin/nologin\n"


def passwords(passwd: bytes, shadow: bytes | None) -> dict[str, str]:
    return {one.name: one.password for one in accounts_of(passwd, shadow)}


def test_each_line_is_an_account_with_its_home_and_shell() -> None:
    assert accounts_of(PASSWD, b"root:*:1::::::\napp:!:1::::::\n") == (
        Account(name="root", uid=0, password="locked", home="/root", shell="/bin/bash"),
        Account(name="app", uid=10001, password="locked", home="/srv", shell="/usr/sbin/nologin"),
    )


@pytest.mark.parametrize(
    ("hidden", "password"),
    [("*", "locked"), ("!", "locked"), ("!$y$j9T$salt$hash", "locked"), ("", "empty"), ("$y$j9T$salt$hash", "set"),
     ("x", "set")],
)  # fmt: skip
def test_shadow_says_whether_an_account_is_locked(hidden: str, password: str) -> None:
    assert passwords(b"app:x:1:1::/:/bin/sh", f"app:{hidden}:1::::::".encode()) == {"app": password}


@pytest.mark.parametrize(("field", "password"), [("", "empty"), ("*", "locked"), ("$6$hash", "set")])
def test_a_password_in_passwd_itself_counts_whatever_shadow_says(field: str, password: str) -> None:
    assert passwords(f"app:{field}:1:1::/:/bin/sh".encode(), b"app:!:1::::::") == {"app": password}


@pytest.mark.parametrize("shadow", [None, b"", b"other::1::::::", b"app"])
def test_who_is_not_in_shadow_cannot_log_in(shadow: bytes | None) -> None:
    assert passwords(b"app:x:1:1::/:/bin/sh", shadow) == {"app": "locked"}


def test_of_two_lines_in_shadow_the_first_counts() -> None:
    assert passwords(b"app:x:1:1::/:/bin/sh", b"app::1::::::\napp:!:1::::::\n") == {"app": "empty"}


def test_no_hash_is_in_what_is_told() -> None:
    told = accounts_of(b"a:$6$hash-a:1:1::/:/bin/sh\nb:x:2:2::/:/bin/sh", b"b:$6$hash-b:1::::::")
    assert "hash" not in repr(told)


@pytest.mark.parametrize(
    ("line", "uid"),
    [
        ("a:x:7:7::/:", 7), ("  a:x:7:7::/:", 7), ("a:x: 7:7::/:", 7), ("a:x:+7:7::/:", 7),
        ("a:x:00000000000:0::/:", 0), ("a:x:" + "0" * 9000 + "7:0::/:", 7), ("a:x::0::/:", 0), ("a:x:seven:0::/:", 0),
        ("a:x:4294967294:0::/:", 4294967294),
    ],
)  # fmt: skip
def test_an_uid_that_is_no_plain_number_hides_no_account(line: str, uid: int) -> None:
    assert [(one.name, one.uid) for one in accounts_of(line.encode(), None)] == [("a", uid)]


@pytest.mark.parametrize("line", ["", "# root::0:0::/:/bin/sh", "root", "root:x", ":x:0:0::/:"])
def test_what_is_no_line_of_passwd_is_no_account(line: str) -> None:
    assert accounts_of(f"{line}\n".encode(), None) == ()


def test_bytes_that_are_no_text_are_told_all_the_same() -> None:
    assert [one.uid for one in accounts_of(b"\xff\xfe::0:0::/:/bin/sh\n", None)] == [0]


class TestWhomAContainerRunsAs:
    ACCOUNTS = accounts_of(b"root:x:0:0::/:\napp:x:10001:1::/:\n1234:x:0:0::/:\n", None)

    @pytest.mark.parametrize(
        ("user", "uid"),
        [("", 0), ("0", 0), ("0:0", 0), ("app", 10001), ("app:nogroup", 10001), ("10001", 10001), ("7", 7),
         ("nobody-knows", None), ("-1", None), ("0x0", None), ("99999999999", None)],
    )  # fmt: skip
    def test_a_name_is_looked_up_and_a_number_is_itself(self, user: str, uid: int | None) -> None:
        assert uid_of(user, self.ACCOUNTS) == uid

    def test_a_name_that_looks_like_a_number_is_the_account_of_that_name(self) -> None:
        assert uid_of("1234", self.ACCOUNTS) == 0

    def test_where_nobody_knows_the_accounts_nobody_knows_whom(self) -> None:
        assert uid_of("10001", None) is None
        assert uid_of("", None) == 0
