"""Archives beside Debian's that recipes may take packages from: GOLDSMITH_EXTRA_ARCHIVES. docs/archives.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from builder.errors import SettingsInvalid
from builder.recipes.configured import Strict, read_configured

# Words of a sources.list, where a space or a bracket begins something else.
_Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
_Url = Annotated[str, StringConstraints(pattern=r"^https?://[!-Z^-~]+$", max_length=1024)]
_File = Annotated[str, StringConstraints(pattern=r"^[!-Z\\^-~]+$", max_length=1024)]
_Words = Annotated[list[_Word], Field(min_length=1, max_length=20)]


class ExtraArchive(Strict):
    """A signed Debian archive. Its packages never take the place of Debian's own."""

    vendor: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]{0,30}$")] = Field(
        description="Who makes its packages: the namespace of their package URLs.", examples=["acme"]
    )
    url: _Url = Field(description="Its base URL, which has `dists/`.", examples=["https://packages.example.com/debian"])
    keyring: _File = Field(
        description="The file with the keys that sign it, beside this file or with a whole path; nothing else is "
        "believed.",
        examples=["acme.gpg"],
    )
    suites: _Words = Field(
        description="For images of which Debian; it must have suites of these names.", examples=[["trixie"]]
    )
    components: _Words = Field(default=["main"])

    @model_validator(mode="after")
    def _not_debian(self) -> Self:
        if self.vendor == "debian":
            raise ValueError("vendor: 'debian' names Debian's own packages, which have advisories of their own")
        return self

    @property
    def base(self) -> str:
        """The URL without a slash at the end."""
        return self.url.rstrip("/")


class ExtraArchives(Strict):
    api_version: Literal["goldsmith/v1"]
    kind: Literal["ExtraArchives"]
    archives: Annotated[list[ExtraArchive], Field(min_length=1, max_length=20)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        bases = [archive.base for archive in self.archives]
        if len(set(bases)) != len(bases):
            raise ValueError("archives: two have the same url")
        return self


def read_extra_archives(path: Path) -> tuple[ExtraArchive, ...]:
    """With whole paths of keyrings. Raises SettingsInvalid that names the line at fault."""
    found = read_configured(
        path, ExtraArchives, variable="GOLDSMITH_EXTRA_ARCHIVES", hint="docs/archives.md has an example"
    )
    return tuple(_whole(archive, path) for archive in found.archives)


def _whole(archive: ExtraArchive, path: Path) -> ExtraArchive:
    keyring = path.absolute().parent / archive.keyring
    if not keyring.is_file():
        raise SettingsInvalid(f"GOLDSMITH_EXTRA_ARCHIVES: {path}: there is no keyring {keyring}")
    return archive.model_copy(update={"keyring": str(keyring)})
