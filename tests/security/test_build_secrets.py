"""A secret is a file in memory for one step, and nothing that is kept or told has its value."""

from __future__ import annotations

import base64
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.engine.assembly import Assembly, RunFailed
from builder.engine.docker import Engine
from builder.engine.secrets import BuildSecrets, SecretInImage
from builder.errors import GoldsmithError, SettingsInvalid
from builder.pipeline.build_secrets import SecretsNotAllowed, SecretUnavailable, refuse_secrets, secrets_of
from builder.recipes.document import RecipeInvalid
from builder.recipes.model import Recipe, RunStep
from builder.recipes.reading import canonical_json, read_recipe

VALUE = b"hunter2/+&" + secrets.token_hex(12).encode()
KNOWN = BuildSecrets({"TOKEN": VALUE + b"\n"})


def recipe(*names: str, more: str = "") -> Recipe:
    listed = ", ".join(names)
    return read_recipe(
        "apiVersion: goldsmith/v1\nkind: Image\nmetadata: {name: web}\nspec:\n  base: {recipe: debian}\n"
        f"  publish: {{repository: golden/web}}\n  run: [{{shell: 'true', secrets: [{listed}]{more}}}]\n"
    )


class TestInAContainer:
    def run(self, engine: Engine, image: str, spool: Path, *steps: RunStep) -> tuple[list[str], bytes]:
        """What was said, and the image's file system."""
        said: list[str] = []
        with engine.build_container(image, f"test{secrets.token_hex(11)}", {}, secrets=True) as container:
            Assembly(container, 0, lambda: None, time.monotonic() + 60, said.append, spool, KNOWN).run(steps, {})
            container.kill()
            return said, b"".join(container.export())

    def test_it_is_there_for_its_step_alone_and_in_no_layer(self, engine: Engine, image: str, tmp_path: Path) -> None:
        look = "ls /run/secrets; env | grep -c hunter2 || true"
        said, exported = self.run(
            engine, image, tmp_path,
            RunStep(shell=f"(sleep 1000 </dev/null >/dev/null 2>&1 &); {look}"),
            RunStep(
                shell="stat -c '%a %u' /run/secrets/TOKEN; wc -c </run/secrets/TOKEN; grep -c ' /run/secrets tmpfs' "
                "/proc/mounts; ps | grep -c 'sle[e]p 1000' || true; ls -a / >/dev/null",
                secrets=["TOKEN"],
            ),
            RunStep(shell=look),
        )  # fmt: skip
        assert said == [
            "$ shell script", "0", "$ shell script (with the secrets TOKEN)", "600 0", str(len(VALUE) + 1), "1", "0",
            "$ shell script", "0",
        ]  # fmt: skip
        assert VALUE not in exported

    def test_what_a_step_says_of_it_is_not_told(self, engine: Engine, image: str, tmp_path: Path) -> None:
        said, _ = self.run(
            engine, image, tmp_path,
            RunStep(
                shell="cd /run/secrets; cat TOKEN; base64 TOKEN; (echo -n ab; cat TOKEN) | base64; "
                "xxd -p <TOKEN | tr -d '\\n'; echo",
                secrets=["TOKEN"],
            ),
        )  # fmt: skip
        assert said[1] == "[secret]"
        for line in said[1:]:
            assert "[secret]" in line
            assert VALUE.decode() not in line
            assert VALUE.hex() not in line

    def test_nor_of_a_step_that_fails(self, engine: Engine, image: str, tmp_path: Path) -> None:
        failing = RunStep(shell="cat /run/secrets/TOKEN >&2; exit 3", secrets=["TOKEN"])
        with pytest.raises(RunFailed, match=r"exit code 3: \[secret\]") as told:
            self.run(engine, image, tmp_path, failing)
        assert VALUE.decode() not in str(told.value.problem())

    @pytest.mark.parametrize("form", ["cat", "base64"])
    def test_a_step_that_writes_it_into_the_image_makes_none(
        self, engine: Engine, image: str, tmp_path: Path, form: str
    ) -> None:
        _, exported = self.run(
            engine, image, tmp_path, RunStep(shell=f"{form} /run/secrets/TOKEN >/etc/leak", secrets=["TOKEN"])
        )
        chunks = (exported[start : start + 1000] for start in range(0, len(exported), 1000))
        with pytest.raises(SecretInImage, match="the secret TOKEN is in a file"):
            for _ in KNOWN.refused_in(chunks):
                pass


class TestRedaction:
    @pytest.mark.parametrize(
        "encode",
        [
            bytes.decode, lambda v: base64.b64encode(v).decode(), lambda v: base64.urlsafe_b64encode(v).decode(),
            bytes.hex, lambda v: v.hex().upper(), lambda v: quote(v, safe=""), quote,
            lambda v: base64.b64encode(b"user:" + v).decode(), lambda v: base64.b64encode(b"x" + v + b"yz").decode(),
        ],
        ids=["raw", "base64", "base64url", "hex", "HEX", "percent", "percent but slashes", "basic auth", "amid others"],
    )  # fmt: skip
    def test_of_each_form(self, encode: Callable[[bytes], str]) -> None:
        shown = KNOWN.redacted(f"a {encode(VALUE)} b")
        assert "[secret]" in shown
        assert VALUE.decode() not in shown
        assert VALUE[4:-4].hex() not in shown.lower()

    @given(st.binary(min_size=8, max_size=200), st.binary(max_size=5), st.binary(max_size=5))
    def test_of_any_value_amid_others(self, value: bytes, before: bytes, after: bytes) -> None:
        stripped = value.strip()
        if len(stripped) < 8:
            return
        known = BuildSecrets({"X": value})
        inner = base64.b64encode(stripped).decode()[4:-4]
        assert len(inner) < 8 or inner not in known.redacted(base64.b64encode(stripped + after).decode())
        shown = known.redacted(base64.b64encode(before + stripped + after).decode())
        assert "[secret]" in shown

    def test_of_a_long_value_line_by_line(self) -> None:
        key = "\n".join(secrets.token_hex(24) for _ in range(20))
        known = BuildSecrets({"KEY": key.encode()})
        assert all(known.redacted(line) == "[secret]" for line in key.splitlines())
        wrapped = base64.encodebytes(key.encode()).decode().splitlines()
        assert all("[secret]" in known.redacted(line) for line in wrapped if len(line) > 8)

    def test_leaves_other_text_alone_and_shows_names_only(self) -> None:
        assert KNOWN.redacted("hunter2 is a password") == "hunter2 is a password"
        assert repr(KNOWN) == "BuildSecrets(TOKEN)"

    def test_across_chunks(self) -> None:
        for cut in range(1, len(VALUE)):
            with pytest.raises(SecretInImage):
                list(KNOWN.refused_in(iter([b"x" * 50 + VALUE[:cut], VALUE[cut:] + b"y"])))
        assert b"".join(KNOWN.refused_in(iter([b"a", b"b" * 100, b""]))) == b"a" + b"b" * 100


class TestWhoIsGivenAny:
    @pytest.mark.parametrize("origin", ["request", "git"])
    def test_no_recipe_that_a_request_brings(self, origin: str) -> None:
        with pytest.raises(SecretsNotAllowed, match="is given none") as told:
            refuse_secrets(recipe("TOKEN"), origin)
        assert told.value.errors[0].field == "spec.run[0].secrets"
        refuse_secrets(recipe("TOKEN"), "catalogue")
        refuse_secrets(recipe(), origin)

    def asked(self, directory: Path | None, wanted: Recipe, origin: str = "catalogue") -> BuildSecrets:
        services: Any = SimpleNamespace(settings=SimpleNamespace(build_secrets_directory=directory))
        task: Any = SimpleNamespace(recipe=wanted, build=SimpleNamespace(origin=origin))
        return secrets_of(services, task)

    def planted(self, directory: Path, value: bytes = VALUE, mode: int = 0o600, name: str = "web/TOKEN") -> Path:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(value)
        (directory / name).chmod(mode)
        return directory

    def test_its_own_and_no_others(self, tmp_path: Path) -> None:
        self.planted(self.planted(tmp_path), name="other/PASSWORD")
        assert self.asked(tmp_path, recipe("TOKEN")).named(["TOKEN"]) == {"TOKEN": VALUE}
        with pytest.raises(SecretUnavailable, match="no secret PASSWORD for the recipe web") as told:
            self.asked(tmp_path, recipe("PASSWORD"))
        assert "GOLDSMITH_BUILD_SECRETS_DIRECTORY" in (told.value.hint or "")
        with pytest.raises(SecretsNotAllowed):
            self.asked(tmp_path, recipe("TOKEN"), "request")

    def test_none_where_there_is_no_directory(self) -> None:
        assert repr(self.asked(None, recipe())) == "BuildSecrets()"
        with pytest.raises(SecretUnavailable):
            self.asked(None, recipe("TOKEN"))

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
    def test_none_of_a_file_that_others_may_read(self, tmp_path: Path, mode: int) -> None:
        with pytest.raises(SettingsInvalid, match=f"has mode {mode:04o}: others may read or write it"):
            self.asked(self.planted(tmp_path, mode=mode), recipe("TOKEN"))

    @pytest.mark.parametrize("value", [b"", b"short\n", b"x" * 70_000])
    def test_none_that_is_too_short_or_too_long(self, tmp_path: Path, value: bytes) -> None:
        with pytest.raises(SettingsInvalid, match="8 to 65536 are possible"):
            self.asked(self.planted(tmp_path, value), recipe("TOKEN"))

    @pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hostname"), Path.mkdir, os.mkfifo])
    def test_none_of_what_is_no_plain_file(self, tmp_path: Path, make: Callable[[Path], object]) -> None:
        (tmp_path / "web").mkdir()
        make(tmp_path / "web/TOKEN")
        with pytest.raises(SecretUnavailable, match="no plain file"):
            self.asked(tmp_path, recipe("TOKEN"))

    @pytest.mark.parametrize("name", ["../x", "..", ".hidden", "a/b", "-rf", "''", "a b", "a\\u0000b", "/etc/passwd"])
    def test_no_name_leads_elsewhere(self, name: str) -> None:
        with pytest.raises(GoldsmithError) as told:
            recipe(f'"{name}"')
        assert isinstance(told.value, RecipeInvalid)

    def test_no_name_twice(self) -> None:
        with pytest.raises(RecipeInvalid, match="names one of them twice"):
            recipe("A", "A")


def test_an_image_that_a_secret_made_is_not_hermetic_and_a_recipe_without_is_what_it_was() -> None:
    assert not recipe("TOKEN").spec.hermetic
    assert recipe("TOKEN").spec.secrets == ("TOKEN",)
    assert recipe().spec.hermetic
    assert b"secrets" not in canonical_json(recipe())
    assert b'"secrets":["TOKEN"]' in canonical_json(recipe("TOKEN"))
