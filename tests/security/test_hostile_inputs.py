"""Requests, recipes and archives that nobody sends in good faith: each ends in one clear sentence, and quickly."""

from __future__ import annotations

import gzip
import io
import json
import resource
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from fastapi.testclient import TestClient

from builder.errors import GoldsmithError
from builder.image.digests import digest_of
from builder.image.documents import Descriptor, DocumentInvalid, parse_index, parse_manifest
from builder.image.layerreader import LayerInvalid, open_layer
from builder.image.tarstream import read_hashed
from builder.policy.reading import PolicyInvalid, read_policy
from builder.recipes.catalogue import Catalogue
from builder.recipes.document import RecipeInvalid
from builder.recipes.reading import read_recipe
from builder.registry.reference import parse_reference
from tests.unit.api import RECIPE

pytest_plugins = ["tests.unit.databases", "tests.unit.api"]
# ruff: noqa: E501  (each line of attempts is one line)

SIGNS = {
    "escape": "\x1b[2J", "bell": "\x07", "null": "\0", "backspace": "\b\b", "C1": "\x9b31m", "delete": "\x7f",
}  # fmt: skip


def recipe(**spec: Any) -> str:
    document = {
        "apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": "web"},
        "spec": {"base": {"recipe": "debian"}, "publish": {"repository": "golden/web"}, **spec},
    }  # fmt: skip
    return json.dumps(document)


def refused(text: str | bytes) -> RecipeInvalid:
    started = time.monotonic()
    with pytest.raises(RecipeInvalid) as told:
        read_recipe(text)
    assert time.monotonic() - started < 5
    fault = told.value.errors[0]
    assert fault.message
    assert all(c.isprintable() or c == "\n" for c in str(told.value)), "it can be shown as it is"
    return told.value


class TestArguments:
    @pytest.mark.parametrize(
        "name",
        ["-y", "--allow-unauthenticated", "-oDPkg::Pre-Invoke::=id", "-o", "nginx -y", "nginx;id", "nginx$(id)", "nginx`id`",
         "nginx|id", "nginx&", "nginx\n-y", "nginx-", "nginx/sid", "nginx=1-", "./x.deb", "/tmp/x.deb", "nginx*", "?installed",
         "~nnginx", "nginx:i386", "Nginx", "nginx\0", "", "nginx=-1", "nginx=1 -y", "^task", "nginx+x y"],
    )  # fmt: skip
    def test_no_package_is_an_option_a_path_or_a_pattern(self, name: str) -> None:
        assert refused(recipe(packages=[name])).errors[0].field == "spec.packages[0]"

    @pytest.mark.parametrize("suite", ["-x", "--mode=root", "trixie deb", "../x", "trixie;id", "", "trixie\n"])
    def test_no_suite_is_an_option(self, suite: str) -> None:
        assert refused(recipe(base={"debian": {"suite": suite}}))

    @pytest.mark.parametrize("component", ["-x", "main contrib", "main]", "[trusted=yes]", "main\ndeb"])
    def test_no_component_is_more_than_a_word(self, component: str) -> None:
        assert refused(recipe(base={"debian": {"suite": "trixie", "components": [component]}}))

    @pytest.mark.parametrize(
        "image",
        ["-x@sha256:" + "0" * 64, "docker://x@sha256:" + "0" * 64, "dir:/etc@sha256:" + "0" * 64, "x:latest", "x",
         "x@sha256:short", "x@sha512:" + "0" * 128, "x@sha256:" + "0" * 64 + " --tls-verify=false", "a b@sha256:" + "0" * 64,
         "oci-archive:/x@sha256:" + "g" * 64],
    )  # fmt: skip
    def test_no_base_is_an_option_another_transport_or_a_tag(self, image: str) -> None:
        try:
            reference = read_recipe(recipe(base={"image": image})).spec.base.image
        except RecipeInvalid:
            return
        with pytest.raises(GoldsmithError):
            parse_reference(reference or "")

    @pytest.mark.parametrize("name", ["-x", "../x", "X", "x y", "x" * 64, "", "x;id", "x\n"])
    def test_no_recipe_is_called_what_is_no_name(self, name: str) -> None:
        assert (
            refused(recipe().replace('"name": "web"', f'"name": {json.dumps(name)}')).errors[0].field == "metadata.name"
        )

    @pytest.mark.parametrize(
        "repository", ["../x", "-x", "/x", "x/", "x//y", "X", "staging/x", "goldsmith/x", "x:tag", "a b"]
    )
    def test_nothing_is_published_where_it_must_not_be(self, repository: str) -> None:
        assert refused(recipe(publish={"repository": repository}))

    @pytest.mark.parametrize("tag", ["-x", ".x", "a/b", "sha256-" + "0" * 64, "a b", "", "x\n"])
    def test_no_tag_is_more_than_a_tag(self, tag: str) -> None:
        assert refused(recipe(publish={"repository": "golden/web", "tags": [tag]}))


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        ["etc/x", "/../etc/passwd", "/a/../../x", "/a/./x", "//etc/x", "/a/", "/", "/a\nb", "/a\0b", "/a\x1b[2J"],
    )
    def test_no_file_goes_where_it_should_not(self, path: str) -> None:
        assert refused(recipe(files=[{"path": path, "content": ""}]))

    @pytest.mark.parametrize(
        "source", ["../x", "/etc/passwd", "a/../../x", "-x", "a/..", "~/x", "a\0b", "https://x/y", "a b"]
    )
    def test_no_source_leads_away_from_the_recipe(self, source: str) -> None:
        assert refused(recipe(files=[{"path": "/x", "source": source}]))

    @pytest.mark.parametrize("target", ["/etc/hostname", "../../secret"])
    def test_no_link_beside_a_recipe_is_followed_out(self, tmp_path: Path, target: str) -> None:
        (tmp_path / "secret").write_text("canary")
        directory = tmp_path / "a/recipes"
        directory.mkdir(parents=True)
        (directory / "x").symlink_to(target)
        (directory / "web.yaml").write_text(recipe(files=[{"path": "/x", "source": "x"}]))
        with pytest.raises(RecipeInvalid) as told:
            Catalogue(directory).get("web")
        assert "canary" not in str(told.value)

    @pytest.mark.parametrize("name", ["../web", "/etc/passwd", "..", "web.yaml", "a/b", "web\0", "-x", "%2e%2e"])
    def test_no_name_leads_out_of_the_catalogue(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "recipes").mkdir()
        (tmp_path / "web.yaml").write_text(recipe())
        with pytest.raises(GoldsmithError):
            Catalogue(tmp_path / "recipes").get(name)


class TestDocuments:
    BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )

    @pytest.mark.parametrize(
        "text",
        [BOMB, "a: !!python/object/apply:os.system [id]", "a: !!python/name:os.system", "!!map {a: 1}", "a: !include /etc/passwd",
         "<<: {a: 1}", "a: 1\na: 2", "a: 1\n---\na: 1", "{" * 10_000, "[" * 10_000, '{"a":' * 10_000, "- " * 10_000,
         "a: .nan", "a: " + "9" * 100_000, "\ufeff\ufeffa", "a: \x1b[2J", "x" * 3_000_000, "? " * 5000],
        ids=["aliases", "object", "function", "tag", "include", "merge", "twice", "two", "braces", "brackets", "json", "lists",
             "nan", "number", "marks", "escape", "large", "keys"],
    )  # fmt: skip
    def test_a_recipe_that_is_a_weapon(self, text: str) -> None:
        assert refused(text)

    @pytest.mark.parametrize("text", [BOMB, "a: !!python/name:os.system", "[" * 10_000, "a: 1\na: 2"])
    def test_a_policy_that_is_a_weapon(self, text: str) -> None:
        with pytest.raises((PolicyInvalid, RecipeInvalid)):
            read_policy(text)

    @pytest.mark.parametrize("sign", SIGNS.values(), ids=SIGNS)
    @pytest.mark.parametrize("field", ["description", "environment", "label", "command", "key"])
    def test_text_that_acts_on_a_terminal(self, field: str, sign: str) -> None:
        spec: dict[str, Any] = {
            "environment": {"environment": {"A": f"a{sign}b"}}, "label": {"labels": {"a": f"a{sign}b"}},
            "command": {"command": [f"a{sign}b"]}, "key": {f"a{sign}b": 1}, "description": {},
        }[field]  # fmt: skip
        text = recipe(**spec)
        if field == "description":
            text = text.replace('"name": "web"', f'"name": "web", "description": {json.dumps(f"a{sign}b")}')
        assert refused(text)

    @pytest.mark.parametrize(
        "body",
        [b"[" * 200_000, b'{"recipe":' * 100_000, b'{"recipe": "' + b"x" * 8_000_000 + b'"}', b'{"recipe": ' + b"9" * 100_000 + b"}",
         b'{"recipe": "web", "recipe": "x"}', b'{"recipe": NaN}', b"\xff\xfe", b'{"recipe": "\\ud800"}', b'{"recipe": "../x"}', b"null",
         b'{"recipe": "web", "__proto__": {}}', b'{"recipe": {"apiVersion": "\x00"}}'],
        ids=["brackets", "braces", "large", "number", "twice", "nan", "bytes", "surrogate", "path", "null", "unknown", "zero"],
    )  # fmt: skip
    def test_a_request_that_is_a_weapon(self, client: TestClient, body: bytes) -> None:
        started = time.monotonic()
        answer = client.post("/v1/builds", content=body, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]
        assert time.monotonic() - started < 5


def layer(content: bytes, media_type: str, directory: Path, diff_id: str = "sha256:" + "0" * 64) -> Iterator[bytes]:
    path = directory / "layer"
    path.write_bytes(content)
    with open_layer(
        path, Descriptor(media_type=media_type, digest=digest_of(content), size=len(content)), diff_id
    ) as tar:
        for entry in read_hashed(tar):
            yield entry.path


def zeros(count: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header = tarfile.TarInfo("zeros")
        header.size = count
        tar.addfile(header, io.BytesIO(bytes(count)))
    return buffer.getvalue()


class TestBombs:
    @pytest.mark.parametrize(
        "kind", ["gzip", "zstd", "gzip of gzip", "gzip with more behind", "zstd with a giant window"]
    )
    def test_a_layer_that_unpacks_without_end_costs_no_memory(self, tmp_path: Path, kind: str) -> None:
        packed = {
            "gzip": lambda: gzip.compress(zeros(64 << 20), 1),
            "zstd": lambda: zstandard.ZstdCompressor().compress(zeros(64 << 20)),
            "gzip of gzip": lambda: gzip.compress(gzip.compress(zeros(64 << 20), 1), 1),
            "gzip with more behind": lambda: gzip.compress(zeros(100), 1) + b"more",
            "zstd with a giant window": lambda: b"\x28\xb5\x2f\xfd\x00\xf8" + bytes(100),
        }[kind]()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        media = "zstd" if "zstd" in kind else "gzip"
        with pytest.raises(GoldsmithError):
            for _ in layer(packed, f"application/vnd.oci.image.layer.v1.tar+{media}", tmp_path):
                pass
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 48 * 1024


class TestDigests:
    MANIFEST = json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
         "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2},
         "layers": []}
    ).encode()  # fmt: skip

    def test_a_layer_that_was_swapped_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "layer"
        good, bad = gzip.compress(zeros(10)), gzip.compress(zeros(11))
        path.write_bytes(bad)
        described = Descriptor(
            media_type="application/vnd.oci.image.layer.v1.tar+gzip", digest=digest_of(good), size=len(good)
        )
        with pytest.raises(LayerInvalid), open_layer(path, described, digest_of(zeros(10))):
            pytest.fail("not a byte of it is believed")

    def test_a_layer_that_unpacks_to_another_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(LayerInvalid):
            list(
                layer(
                    gzip.compress(zeros(10)), "application/vnd.oci.image.layer.v1.tar+gzip", tmp_path, digest_of(b"x")
                )
            )

    @pytest.mark.parametrize(
        "change",
        [{"manifests": []}, {"mediaType": "application/vnd.oci.image.index.v1+json"}, {"schemaVersion": 1},
         {"config": {"mediaType": "x", "digest": "sha256:../../x", "size": 1}}, {"layers": [{"digest": "sha1:00", "size": 1}]},
         {"layers": [{"mediaType": "x", "digest": digest_of(b""), "size": -1}]}, {"layers": "x"}],
    )  # fmt: skip
    def test_a_document_that_is_two_things_or_none_is_refused(self, change: dict[str, Any]) -> None:
        parse_manifest(self.MANIFEST)
        with pytest.raises(DocumentInvalid):
            parse_manifest(json.dumps({**json.loads(self.MANIFEST), **change}).encode())

    def test_an_index_is_never_taken_for_an_image(self) -> None:
        index = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
        parse_index(index)
        with pytest.raises(DocumentInvalid):
            parse_manifest(index)
        with pytest.raises(DocumentInvalid):
            parse_index(self.MANIFEST)


def test_the_recipe_that_all_of_them_spoil_is_a_good_one() -> None:
    read_recipe(recipe())
    read_recipe(RECIPE.replace("NAME", "web"))
