"""The recipe: everything that decides what an image is. Strict, so that a typo is an error and not a silent default."""

from __future__ import annotations

import base64
import difflib
import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic.alias_generators import to_camel

from builder.policy.policy import Policy

API_VERSION = "goldsmith/v1"

NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


class Strict(BaseModel):
    """Unknown keys are refused, nothing is coerced, names are camelCase in the text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


def _no_control_characters(value: str) -> str:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", value):
        raise ValueError("control characters are not allowed")
    return value


def _clean_path(value: str) -> str:
    if {".", ".."} & set(value.split("/")) or "//" in value or (value != "/" and value.endswith("/")):
        raise ValueError("write the path plainly: absolute, without '.', '..', '//' or a slash at its end")
    return value


def _no_colon(value: str) -> str:
    if ":" in value:
        raise ValueError("':' separates the fields of passwd(5): no path in it may hold one")
    return value


def _ids_exist(value: str) -> str:
    if any(part.isdecimal() and int(part) > 4294967294 for part in value.split(":")):
        raise ValueError("a uid or gid is at most 4294967294")
    return value


def _port_exists(value: str) -> str:
    if int(value.partition("/")[0]) > 65535:
        raise ValueError("a port is at most 65535")
    return value


def _base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError(f"not base64: {error}") from error
    return value


Text = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_no_control_characters)]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
AbsolutePath = Annotated[
    str, StringConstraints(pattern=r"^/[^\x00-\x1f]*$", max_length=1024), AfterValidator(_clean_path)
]
Mode = Annotated[str, StringConstraints(pattern=r"^0?[0-7]{3,4}$")]
Account = Annotated[str, StringConstraints(pattern=r"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})$")]
Owner = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$"),
    AfterValidator(_ids_exist),
]
NumericOwner = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,10}(:[0-9]{1,10})?$"), AfterValidator(_ids_exist)]
# Debian policy 5.6.7 (names) and 5.6.12 (versions). The first character can never be a dash, which would make an option
# of it, nor the last one, which apt-get takes for "remove".
PackageName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](=[0-9]([A-Za-z0-9.+:~-]*[A-Za-z0-9.~])?)?$")
]
Port = Annotated[int, Field(ge=1, le=65535)]
PortSpec = Annotated[
    str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}(/(tcp|udp|sctp))?$"), AfterValidator(_port_exists)
]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
Arguments = Annotated[list[Text], Field(min_length=1, max_length=256)]
ImageDigestReference = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.:/_-]*@sha256:[0-9a-f]{64}$")]
RepositoryName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$", max_length=200)
]


class DebianBase(Strict):
    """A base bootstrapped from Debian packages: the essential set and apt, nothing else."""

    suite: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,30}$")] = Field(examples=["trixie"])
    components: list[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]{1,30}$")]] = ["main"]
    architecture: Literal["amd64", "arm64"] | None = Field(
        default=None, description="The Debian architecture; the build host's own when not given."
    )


class Base(Strict):
    """What the image starts from: exactly one of the three."""

    debian: DebianBase | None = None
    image: ImageDigestReference | None = Field(default=None, description="Any image, by digest.")
    recipe: Name | None = Field(default=None, description="Another recipe's released image.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(part is not None for part in (self.debian, self.image, self.recipe)) != 1:
            raise ValueError("give exactly one of 'debian', 'image' and 'recipe'")
        return self


class File(Strict):
    """One file put into the image."""

    path: AbsolutePath
    content: Annotated[str, StringConstraints(max_length=131072)] | None = Field(default=None, description="The text.")
    content_base64: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$", max_length=180000), AfterValidator(_base64)]
        | None
    ) = Field(default=None, description="The bytes, in base64.")
    source: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._][A-Za-z0-9._/+-]*$")] | None = Field(
        default=None, description="A file beside the recipe, relative to it."
    )
    owner: Owner = "0:0"
    mode: Mode = "0644"

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(part is not None for part in (self.content, self.content_base64, self.source)) != 1:
            raise ValueError("give exactly one of 'content', 'contentBase64' and 'source'")
        if self.source is not None and ".." in self.source.split("/"):
            raise ValueError("'source' must stay beside the recipe: '..' is not allowed")
        if self.path == "/":
            raise ValueError("'/' is not a file")
        return self


class User(Strict):
    """A system account. Passwords are always locked."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
    uid: Annotated[int, Field(ge=1, le=4294967293)]
    gid: Annotated[int, Field(ge=1, le=4294967293)] | None = Field(default=None, description="The uid when not given.")
    home: Annotated[AbsolutePath, AfterValidator(_no_colon)] = "/nonexistent"
    shell: Annotated[AbsolutePath, AfterValidator(_no_colon)] = "/usr/sbin/nologin"


class RunStep(Strict):
    """A step written out: a command, or a script for /bin/sh -eu."""

    command: Arguments | None = None
    shell: Annotated[str, StringConstraints(min_length=1, max_length=65536)] | None = Field(
        default=None, description="A script for /bin/sh, run with -eu."
    )
    network: bool = Field(
        default=False, description="Let this step reach out. What it fetches is in no lock: the build is not hermetic."
    )
    secrets: Annotated[list[SecretName], Field(max_length=16)] = Field(
        default=[],
        description="Secrets that this step finds as files below /run/secrets. No lock has them: the build is not "
        "hermetic.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.command is None) == (self.shell is None):
            raise ValueError("give exactly one of 'command' and 'shell'")
        if len(set(self.secrets)) < len(self.secrets):
            raise ValueError("'secrets' names one of them twice")
        return self

    @property
    def argv(self) -> list[str]:
        return self.command or ["/bin/sh", "-euc", self.shell or ""]


class Hardening(Strict):
    """What is taken away from the finished file system. Everything here is off or on, nothing is guessed."""

    remove_setuid: bool = Field(default=True, description="Take the set-uid and set-gid bits off every executable.")
    keep_setuid: list[AbsolutePath] = Field(default=[], description="Except these.")
    lock_passwords: bool = Field(default=True, description="No account can log in with a password.")
    remove_documentation: bool = Field(default=False, description="Manuals, info, locales; copyright files stay.")
    remove_package_manager: bool = Field(
        default=False, description="apt and dpkg go; dpkg's database stays, so that scanners still see the packages."
    )


class Healthcheck(Strict):
    """A command that an engine runs in a container, now and then, to see whether it is well: 0 is well."""

    command: Arguments
    interval_seconds: Annotated[int, Field(ge=1, le=86400)] = 30
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 10
    start_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=0, description="How long after its start failures do not count."
    )
    retries: Annotated[int, Field(ge=1, le=100)] = 3


class RuntimeExpectations(Strict):
    """What a running container may do that is not in the image; comparisons take it from the signed provenance."""

    writable: list[AbsolutePath] = Field(default=[], description="Directories in which containers write.")
    environment: list[VariableName] = Field(default=[], description="Variables that are set when containers start.")
    capabilities: list[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{1,40}$")]] = Field(
        default=[], description="Linux capabilities that containers are given, such as NET_ADMIN."
    )
    no_new_privileges: bool = Field(default=False, description="Containers run with no-new-privileges.")
    read_only: bool = Field(default=False, description="Containers run with a read-only root file system.")


class Output(Strict):
    """What a command must print: all that is given must hold."""

    contains: Text | None = None
    matches: Text | None = Field(default=None, description="A regular expression, searched.")

    @model_validator(mode="after")
    def _pattern_compiles(self) -> Self:
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except (re.error, OverflowError) as error:
                raise ValueError(f"'matches' is not a regular expression: {error}") from error
            except RecursionError as error:
                raise ValueError("'matches' is nested too deeply") from error
        return self


class CommandTest(Strict):
    """A command run inside a container of the finished image."""

    command: Arguments
    exit_code: Annotated[int, Field(ge=0, le=255)] = 0
    stdout: Output = Output()
    stderr: Output = Output()


class FileTest(Strict):
    """A file that must be there (or must not)."""

    file: AbsolutePath
    exists: bool = True
    owner: NumericOwner | None = Field(default=None, description="Numeric: uid or uid:gid.")
    mode: Mode | None = None
    contains: Text | None = None


class PortTest(Strict):
    """A TCP port on which the started image must listen."""

    port: Port
    within_seconds: Annotated[int, Field(ge=1, le=300)] = 30


class HttpRequest(Strict):
    port: Port
    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$", max_length=2048)] = "/"
    status: Annotated[int, Field(ge=100, le=599)] = 200
    contains: Text | None = None
    within_seconds: Annotated[int, Field(ge=1, le=300)] = 30


class HttpTest(Strict):
    """An HTTP answer that the started image must give."""

    http: HttpRequest


_TEST_KINDS = ("command", "file", "port", "http")


def _test_kind(value: object) -> str:
    """Which of the tests the writer means, so that only its own rules are told: by key, else by the nearest word."""
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    for key in keys:
        near = [key] if key in _TEST_KINDS else difflib.get_close_matches(str(key), _TEST_KINDS, n=1, cutoff=0.75)
        if near:
            return f"test:{near[0]}"
    return "test:command"


def _step_kind(value: object) -> str:
    return "step:mapping" if isinstance(value, dict | RunStep) else "step:arguments"


Test = Annotated[
    Annotated[CommandTest, Tag("test:command")]
    | Annotated[FileTest, Tag("test:file")]
    | Annotated[PortTest, Tag("test:port")]
    | Annotated[HttpTest, Tag("test:http")],
    Discriminator(_test_kind),
]
Step = Annotated[
    Annotated[Arguments, Tag("step:arguments")] | Annotated[RunStep, Tag("step:mapping")], Discriminator(_step_kind)
]


class Publish(Strict):
    """Where a released image goes, below the registry of the service."""

    repository: RepositoryName
    tags: list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]] = ["latest"]

    @model_validator(mode="after")
    def _not_reserved(self) -> Self:
        if self.repository.split("/")[0] in {"staging", "goldsmith"}:
            raise ValueError(f"'{self.repository.split('/')[0]}/' is Goldsmith's own: choose another repository")
        if any(re.fullmatch(r"sha256-[0-9a-f]{64}.*", tag) for tag in self.tags):
            raise ValueError("tags like 'sha256-…' belong to the referrers of an image")
        return self


class Spec(Strict):
    base: Base
    packages: Annotated[list[PackageName], Field(max_length=2000)] = []
    files: Annotated[list[File], Field(max_length=1000)] = []
    users: Annotated[list[User], Field(max_length=200)] = []
    run: Annotated[list[Step], Field(max_length=200)] = []
    environment: dict[VariableName, Text] = {}
    entrypoint: list[Text] = []
    command: list[Text] = []
    working_directory: AbsolutePath | None = None
    user: Owner | None = None
    ports: list[PortSpec] = []
    labels: dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._/-]{0,254}[a-z0-9])?$")], Text] = {}
    stop_signal: Annotated[str, StringConstraints(pattern=r"^SIG[A-Z0-9+-]{2,10}$")] | None = None
    healthcheck: Healthcheck | None = None
    hardening: Hardening = Hardening()
    tests: Annotated[list[Test], Field(max_length=200)] = []
    runtime: RuntimeExpectations = RuntimeExpectations()
    policy: Policy = Policy()
    publish: Publish

    @property
    def network_steps(self) -> tuple[int, ...]:
        """The indexes of the steps that ask for a network."""
        return tuple(index for index, step in enumerate(self.run) if isinstance(step, RunStep) and step.network)

    @property
    def secret_steps(self) -> tuple[int, ...]:
        """The indexes of the steps that ask for secrets."""
        return tuple(index for index, step in enumerate(self.run) if isinstance(step, RunStep) and step.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of all secrets, in alphabetical order."""
        return tuple(sorted({name for step in self.run if isinstance(step, RunStep) for name in step.secrets}))

    @property
    def hermetic(self) -> bool:
        """Whether the image follows from its locked materials alone: no step asks for a network or a secret."""
        return not self.network_steps and not self.secret_steps


class Metadata(Strict):
    name: Name
    description: Text = ""
    version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")] | None = None
    source: Annotated[str, StringConstraints(pattern=r"^https://[!-~]+$", max_length=1024)] | None = None
    licenses: Text | None = Field(default=None, description="An SPDX licence expression.")


class Recipe(Strict):
    """A golden image as code."""

    api_version: Literal["goldsmith/v1"]
    kind: Literal["Image"]
    metadata: Metadata
    spec: Spec
