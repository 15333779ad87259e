"""Accounts are edited as text: nothing is guessed, nothing of the base is lost, and no password is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.engine.accounts import AccountConflict, Accounts
from builder.recipes.model import User

PASSWD = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nwww-data:x:33:\nstaff:x:50:www-data\n"
SHADOW = "root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n"
BASE = Accounts(PASSWD, GROUP, SHADOW)


class TestAdding:
    def test_a_user_brings_a_group_of_its_name_and_a_locked_password(self) -> None:
        made = BASE.add([User(name="web", uid=10001, home="/srv", shell="/bin/sh")])
        assert made.passwd == PASSWD + "web:x:10001:10001::/srv:/bin/sh\n"
        assert made.group == GROUP + "web:x:10001:\n"
        assert made.shadow == SHADOW + "web:!*:::::::\n"

    def test_a_group_that_is_there_is_joined_and_not_made(self) -> None:
        made = BASE.add([User(name="web", uid=10001, gid=50)])
        assert "web:x:10001:50:" in made.passwd
        assert made.group == GROUP

    def test_nothing_depends_on_the_day(self) -> None:
        assert BASE.add([User(name="web", uid=7)]) == BASE.add([User(name="web", uid=7)])

    def test_an_image_without_any_files_gets_them(self) -> None:
        made = Accounts("", "", None).add([User(name="web", uid=7)])
        assert made == Accounts("web:x:7:7::/nonexistent:/usr/sbin/nologin\n", "web:x:7:\n", None)

    def test_a_last_line_without_its_end_is_not_glued_to_the_first_new_one(self) -> None:
        made = Accounts(PASSWD.rstrip(), GROUP.rstrip(), SHADOW.rstrip()).add([User(name="web", uid=7)])
        assert made == BASE.add([User(name="web", uid=7)])

    @pytest.mark.parametrize(
        ("users", "place", "who"),
        [
            ([User(name="root", uid=7)], 0, "root with uid 0"),
            ([User(name="web", uid=33)], 0, "www-data with uid 33"),
            ([User(name="a", uid=7), User(name="a", uid=8)], 1, "a with uid 7"),
            ([User(name="a", uid=7), User(name="b", uid=7)], 1, "a with uid 7"),
            ([User(name="staff", uid=7)], 0, "a group staff"),
        ],
    )
    def test_what_is_there_already_is_a_conflict(self, users: list[User], place: int, who: str) -> None:
        with pytest.raises(AccountConflict, match=who) as caught:
            BASE.add(users)
        assert caught.value.detail.startswith(f"spec.users[{place}]: ")
        assert caught.value.hint

    def test_lines_that_make_no_sense_are_kept_and_mean_nothing(self) -> None:
        odd = "+::::::\n\nbroken\nx:y\nn:x:abc:1::/:/bin/sh\n"
        made = Accounts(PASSWD + odd, GROUP, SHADOW).add([User(name="web", uid=7)])
        assert made.passwd.startswith(PASSWD + odd)


class TestLocking:
    def test_takes_every_hash_and_every_empty_password_away(self) -> None:
        shadow = (
            "root:$y$j9T$abc$def:1:0:99999:7:::\nempty::1::::::\noff:!$6$x$y:1::::::\nsys:*:1::::::\nnew:!*:::::::\n"
        )
        made = Accounts(PASSWD, GROUP, shadow).locked()
        assert made.shadow is not None
        assert [line.split(":")[:3] for line in made.shadow.splitlines()] == [
            ["root", "!*", "1"], ["empty", "!*", "1"], ["off", "!*", "1"], ["sys", "*", "1"], ["new", "!*", ""],
        ]  # fmt: skip
        assert "$" not in made.shadow

    def test_takes_passwords_in_passwd_away_too(self) -> None:
        made = Accounts(
            "root::0:0::/:/bin/sh\na:$1$x:7:7::/:/bin/sh\nb:x:8:8::/:/bin/sh\nc:*:9:9::/:/bin/sh\n", "", None
        ).locked()
        assert [line.split(":")[1] for line in made.passwd.splitlines()] == ["*", "*", "x", "*"]
        assert made.shadow is None

    @pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
    def test_knows_no_other_end_of_a_line(self, end: str) -> None:
        text = f"a:x:7:7:o{end}root:x:0:0::/:/bin/sh\n"
        assert Accounts(text, "", text).locked().passwd == text
        assert Accounts(text, "", None).add([User(name="root", uid=9)]).passwd.startswith(text)

    def test_of_what_is_locked_changes_nothing(self) -> None:
        assert BASE.locked() == BASE
        assert BASE.add([User(name="web", uid=7)]).locked().locked() == BASE.add([User(name="web", uid=7)])

    @given(st.text(alphabet="ab:$!*\n xé\udcff", max_size=60))
    def test_keeps_every_line_and_leaves_no_hash(self, text: str) -> None:
        made = Accounts("", "", text).locked().shadow or ""
        before = [line.split(":") for line in text.split("\n") if line]
        after = [line.split(":") for line in made.split("\n") if line]
        assert [fields[0] for fields in after] == [fields[0] for fields in before]
        assert all(fields[1] in ("*", "!*") for fields in after if len(fields) > 1)


class TestOwners:
    @pytest.mark.parametrize(
        ("owner", "found"),
        [
            ("root", (0, 0)), ("www-data", (33, 33)), ("www-data:staff", (33, 50)), ("0:0", (0, 0)), ("33", (33, 33)),
            ("10001", (10001, 10001)), ("10001:7", (10001, 7)), ("root:7", (0, 7)), ("7:staff", (7, 50)),
        ],
    )  # fmt: skip
    def test_are_names_or_numbers(self, owner: str, found: tuple[int, int]) -> None:
        assert BASE.owner(owner) == found

    def test_a_user_alone_brings_its_own_group(self) -> None:
        assert BASE.add([User(name="web", uid=10001, gid=50)]).owner("web") == (10001, 50)

    @pytest.mark.parametrize(("owner", "who"), [("web", "no user 'web'"), ("root:web", "no group 'web'")])
    def test_that_are_nobody_are_told(self, owner: str, who: str) -> None:
        with pytest.raises(AccountConflict, match=who) as caught:
            BASE.owner(owner)
        assert "spec.users" in (caught.value.hint or "")
