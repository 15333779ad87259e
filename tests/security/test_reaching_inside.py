"""Nobody outside makes the service speak to a host inside: by a reference, a redirect, a realm, a URL or a name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from builder.addresses import addresses_of, is_public
from builder.errors import GoldsmithError
from builder.image.digests import digest_of
from builder.pipeline.notifying import WebhookRefused, WebhookUnavailable, check_address
from builder.pipeline.services import Services
from builder.recipes.git import GitPlace, GitSourceRefused, GitSources, GitUnavailable
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.errors import RegistryRefused
from builder.registry.reference import Repository
from builder.settings import Settings
from tests.integration.hostile_server import Answer, Request, answering

DIGEST = digest_of(b"x")

INSIDE = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::", "fe80::1",
    "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2001:0:7f00:1::",
]  # fmt: skip
OUTSIDE = ["1.1.1.1", "8.8.8.8", "2606:4700::1111"]

# What a resolver makes an inner address of.
TRICKS = ["2130706433", "0x7f000001", "017700000001", "127.1", "127.0.1", "0", "0x7f.1", "localhost", "localhost."]


@pytest.mark.parametrize("address", INSIDE)
def test_an_inner_address_is_known_as_one(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_outer_address_is_known_as_one(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", TRICKS)
def test_a_webhook_with_a_trick_for_an_address_is_refused(host: str) -> None:
    with pytest.raises((WebhookRefused, WebhookUnavailable)):
        check_address(f"https://{host}/hook", private=False)


@pytest.mark.parametrize("host", [*TRICKS, "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "127.0.0.1:22"])
def test_a_git_url_with_a_trick_for_an_address_is_refused(host: str) -> None:
    """Also when an operator has listed such a name: what it means counts."""
    sources = GitSources((host,), private=False, seconds=5, max_bytes=1 << 20)
    with (
        pytest.raises((GitSourceRefused, GitUnavailable)),
        sources.commit(GitPlace(f"https://{host}/x", "main", "a.yaml")),
    ):
        pytest.fail("nobody is asked")


@pytest.fixture
def inside() -> Iterator[list[str]]:
    """A host inside that tells who spoke to it: what was sent, by connection."""
    heard: list[str] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with closing(connection):
                    connection.settimeout(2)
                    try:
                        heard.append(connection.recv(1024).decode("latin1"))
                    except OSError:
                        heard.append("")

        heard.append(str(server.getsockname()[1]))
        threading.Thread(target=listen, daemon=True).start()
        yield heard


def asked(directory: Path, registry: str, inner: frozenset[str] | None = frozenset()) -> GoldsmithError:
    access = Access(inner=inner, attempts=1, patience=5)
    with RegistryClient(access, lock_directory=directory) as client, pytest.raises(GoldsmithError) as told:
        client.manifests.get(Repository(registry, "app").at(DIGEST))
    return told.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001"])
def test_a_base_in_a_registry_inside_is_not_asked_for(tmp_path: Path, inside: list[str], host: str) -> None:
    error = asked(tmp_path, f"{host}:{inside[0]}")
    assert isinstance(error, RegistryRefused)
    assert "no public address" in error.detail
    assert "GOLDSMITH_PRIVATE_REGISTRIES" in (error.hint or "")
    assert "".join(inside[1:]) == "", "nothing was sent"


def test_a_name_that_comes_to_mean_a_host_inside_is_not_spoken_to(
    tmp_path: Path, inside: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what a name meant before does not matter, for the connection itself is looked at."""
    real = socket.getaddrinfo

    def rebound(host: Any, *arguments: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host == "registry.example" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    error = asked(tmp_path, f"registry.example:{inside[0]}")
    assert isinstance(error, RegistryRefused)
    assert "registry.example" in error.detail
    assert "127.0.0.1, no public address" in error.detail
    assert "".join(inside[1:]) == "", "nothing was sent"


@pytest.mark.parametrize("way", ["redirect", "realm"])
def test_a_registry_outside_that_leads_inside_is_not_followed(
    tmp_path: Path, inside: list[str], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """This machine plays the internet: what matters is where the second connection leads."""
    monkeypatch.setattr("builder.registry.reach.is_public", lambda address: not inside_seen(address))
    outer: list[str] = []

    def inside_seen(address: str) -> bool:
        outer.append(address)
        return len(outer) > 1

    def answer(_: Request) -> Answer:
        target = f"http://127.0.0.1:{inside[0]}/latest/meta-data/"
        if way == "redirect":
            return Answer(302, {"Location": target})
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="{target}",service="x"'})

    with answering(answer) as server:
        error = asked(tmp_path, server.address)
        assert len(server.requests) == 1
    assert isinstance(error, RegistryRefused)
    assert "".join(inside[1:]) == "", "nothing was sent"


def test_a_registry_that_the_operator_names_may_be_inside(tmp_path: Path) -> None:
    with answering(lambda _: Answer(404)) as server:
        asked(tmp_path, server.address, frozenset({server.address}))
        asked(tmp_path, server.address, None)
        assert len(server.requests) == 2


def test_the_service_lets_in_its_own_registry_and_those_it_is_told(tmp_path: Path) -> None:
    settings = Settings(
        state_directory=tmp_path, database_url=f"sqlite:///{tmp_path}/x.db", registry="registry.internal:5000",
        insecure_registries=("lab:80",), private_registries=("mirror.internal",),
    )  # fmt: skip
    assert Services(settings)._access.inner == {"registry.internal:5000", "lab:80", "mirror.internal"}


@pytest.mark.parametrize("host", ["\0", "a" * 300, "..", "xn--\ud800", "[", "%00"])
def test_a_name_that_is_none_is_no_crash(host: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011  (any of its kinds)
        addresses_of(host, 443)
