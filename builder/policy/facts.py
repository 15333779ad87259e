"""The facts: all that rules look at, in one document, so that a policy can judge a stored scan without the image.

Whoever gathers them says None for what was not looked at. A rule that needs such a fact fails: nobody knows is not yes.
Values of environment variables, arguments of commands and secrets are not in it.
"""

from __future__ import annotations

from typing import Final, Literal

import rfc8785
from pydantic import AwareDatetime, BaseModel, ConfigDict

from builder.image.digests import digest_of
from builder.scanning.findings import DatabaseIdentity, Findings, OperatingSystem, Package, ScannerIdentity, Text

FORMAT: Final = "goldsmith-facts/v1"
MEDIA_TYPE = "application/vnd.goldsmith.facts.v1+json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Found(_Frozen):
    """A path of the image, absolute. `mode` is in octal digits; `package` is the one that installed it."""

    path: Text
    mode: str = "0644"
    owner: str = "0:0"
    package: Text | None = None


class Paths(_Frozen):
    """Paths of one kind, the first of all; `total` counts all, those that are not listed too."""

    found: tuple[Found, ...] = ()
    total: int = 0

    @property
    def unlisted(self) -> int:
        return self.total - len(self.found)


class Files(_Frozen):
    """What stands out in the file system. `unpacked_bytes` is the size of all files, each counted once."""

    unpacked_bytes: int
    setid: Paths = Paths()
    world_writable: Paths = Paths()
    shells: Paths = Paths()
    package_managers: Paths = Paths()
    ssh_servers: Paths = Paths()
    host_keys: Paths = Paths()
    private_keys: Paths = Paths()
    histories: Paths = Paths()
    devices: Paths = Paths()


class Account(_Frozen):
    """A line of /etc/passwd with what /etc/shadow adds. `password`: "locked", "set" (a hash), or "empty" (none asked
    for); `home` and `shell` are the account's."""

    name: Text
    uid: int
    password: Literal["locked", "set", "empty"]
    home: Text = ""
    shell: Text = ""


class ImageFacts(_Frozen):
    """The image's configuration, without values that could be secret: of `entrypoint` and `command` the program only.

    `user` is as it is written there, `uid` as a number where it is one or /etc/passwd knows it.
    """

    architecture: str
    created: AwareDatetime | None = None
    user: Text | None = None
    uid: int | None = None
    ports: tuple[Text, ...] = ()
    volumes: tuple[Text, ...] = ()
    entrypoint: Text | None = None
    command: Text | None = None
    healthcheck: bool = False
    labels: tuple[Text, ...] = ()
    environment: tuple[Text, ...] = ()
    layers: int = 0
    compressed_bytes: int


class BaseFacts(_Frozen):
    """What the image starts from: a recipe's release or an image by digest, or (`suite`) Debian, bootstrapped.

    `created` is the time of the base's newest content.
    """

    recipe: str | None = None
    image: Text | None = None
    digest: str | None = None
    suite: str = ""
    created: AwareDatetime | None = None


class Update(_Frozen):
    """A newer version in the distribution's archive than the image has."""

    package: Text
    installed: Text
    available: Text
    security: bool


class RanTest(_Frozen):
    """One of the recipe's own tests."""

    name: Text
    passed: bool


class Facts(_Frozen):
    """Ages are counted at `gathered_at`, so that the same facts always give the same verdict.

    `covered` says whether the database has advisories for the operating system; `packages_expected` is how many
    packages the scanner must see at the least; `kept_setuid` are the paths that the recipe keeps set-uid; `lock_epoch`
    (UTC seconds) is of the newest locked material; `updates` are those that the archive had at build time;
    `reproduced`: a second assembly gave the same bytes.
    """

    format: Literal["goldsmith-facts/v1"] = FORMAT
    gathered_at: AwareDatetime
    reference: str
    recipe: str
    scanner: ScannerIdentity
    database: DatabaseIdentity
    operating_system: OperatingSystem | None = None
    covered: bool | None = None
    findings: Findings = Findings()
    packages: tuple[Package, ...] = ()
    packages_seen: int
    packages_expected: int
    image: ImageFacts | None = None
    files: Files | None = None
    accounts: tuple[Account, ...] | None = None
    base: BaseFacts | None = None
    kept_setuid: tuple[Text, ...] = ()
    lock_epoch: int | None = None
    updates: tuple[Update, ...] | None = None
    tests: tuple[RanTest, ...] = ()
    hermetic: bool | None = None
    reproduced: bool | None = None

    def to_bytes(self) -> bytes:
        """RFC 8785 JSON: what the digest is over."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        return digest_of(self.to_bytes())
