"""What an engine says of itself, believed as far as it can be held to it."""

from __future__ import annotations

import socket

import pytest

from builder.engine.network import is_here
from builder.engine.owners import Owners
from builder.errors import SettingsInvalid

NAMESPACES = ["name=seccomp,profile=default", "name=userns"]


class TestOwners:
    def test_count_as_the_host_does_without_user_namespaces_whatever_the_directory_is_called(self) -> None:
        about = {"SecurityOptions": NAMESPACES[:1], "DockerRootDir": "/srv/1.2"}
        assert Owners.of(about).inside(33, 231_072) == (33, 231_072)
        assert Owners.of({"SecurityOptions": None}) == Owners()

    def test_count_from_the_root_of_the_namespace(self) -> None:
        owners = Owners.of({"SecurityOptions": NAMESPACES, "DockerRootDir": "/var/lib/docker/231072.100000"})
        assert owners.inside(231_072, 100_000) == (0, 0)
        assert owners.inside(231_105, 100_007) == (33, 7)
        assert owners.inside(33, 7) == (33, 7)

    @pytest.mark.parametrize("directory", ["/var/lib/docker", "/var/lib/docker/231072.231072/", "/1.x", "", None])
    def test_are_not_guessed_where_nobody_says_which_the_namespace_is(self, directory: str | None) -> None:
        with pytest.raises(SettingsInvalid, match=r"GOLDSMITH_ENGINE_URL: .*does not end in the UID\.GID") as told:
            Owners.of({"SecurityOptions": NAMESPACES, "DockerRootDir": directory})
        assert told.value.hint


class TestNetworks:
    def test_are_here_where_the_kernel_has_their_bridge(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No engine here: the kernel is asked for a name that it has, in place of a bridge's."""
        asked: list[str] = []
        loopback = socket.if_nametoindex("lo")

        def known(name: str) -> int:
            asked.append(name)
            return loopback

        monkeypatch.setattr(socket, "if_nametoindex", known)
        assert is_here("0123456789abcdef" * 4)
        assert asked == ["br-0123456789ab"]

    def test_are_elsewhere_where_it_has_none_whatever_addresses_are_here(self) -> None:
        assert not is_here("0123456789abcdef" * 4)
