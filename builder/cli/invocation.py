"""What one call of `goldsmith` was given, before any command: which API, with which key, and whom to trust."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.errors import Rejected

if TYPE_CHECKING:
    from builder.cli.configuration import Found
    from builder.client.api import Client

DEFAULT_URL = "http://127.0.0.1:8420"

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


class KeyAndUrlApart(Rejected):
    slug = "key-and-url-apart"
    title = "It is not sure that the key belongs to the URL"


@dataclass(frozen=True)
class Connection:
    url: str
    key: str | None


@dataclass
class Invocation:
    """The global options, as given by the command line or the environment."""

    url: str | None
    key: str | None
    configuration_file: Path | None

    @cached_property
    def found(self) -> Found | None:
        """The client configuration. Raises ConfigurationInvalid."""
        from builder.cli.configuration import find_configuration

        return find_configuration(self.configuration_file, Path.cwd(), Path.home())

    def connection(self) -> Connection:
        """The URL, and a key that was meant for it.

        A key from a file goes to that file's URL alone; and a key from elsewhere does not go to a URL that merely lay
        in a file of the current directory, which may be anybody's.
        """
        kept = self.found.configuration if self.found else None
        file_url = kept.url if kept else None
        url = self.url or file_url or DEFAULT_URL
        if self.key is not None:
            if self.found and not self.found.chosen and self.url is None and file_url is not None:
                raise KeyAndUrlApart(
                    f"a key was given, but the URL {file_url} comes from {self.found.path}",
                    hint="give --url or GOLDSMITH_URL with the key",
                )
            return Connection(url, self.key)
        ours = kept is not None and kept.key is not None and (file_url or DEFAULT_URL).rstrip("/") == url.rstrip("/")
        return Connection(url, kept.key.get_secret_value() if kept and kept.key and ours else None)

    def client(self) -> Client:
        from builder.client.api import Client

        connection = self.connection()
        return Client(connection.url, connection.key)


def invocation_of(context: typer.Context) -> Invocation:
    found = context.find_object(Invocation)
    assert found is not None, "the root command makes it"
    return found
