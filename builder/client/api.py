"""The API, one method a route."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from builder import __version__
from builder.client.answers import read_answer, refusal, require_type, seconds_until_allowed
from builder.client.connecting import checked_key, checked_url, unreachable
from builder.client.errors import AnswerUnexpected, ApiProblem, ApiUnreachable
from builder.client.events import Ended, Event, meaning, read_events
from builder.client.models import (
    AttestationEntry,
    AttestationPage,
    Build,
    BuildPage,
    Comparison,
    ExceptionPage,
    ExceptionTold,
    FindingPage,
    FindingTold,
    Image,
    Imported,
    LogLine,
    LogPage,
    Page,
    RecipePage,
    Released,
    ReleasedPage,
    Round,
    TrustOffer,
)  # fmt: skip
from builder.client.sources import Parameters, Wanted, named
from builder.signing.loopback import is_loopback

if TYPE_CHECKING:
    from builder.policy.in_force import PolicyInForce
    from builder.registry.reference import Repository
    from builder.verdicts.dry_run import DryRun

_MAX_NAME = 200
_CHUNK = 1024 * 1024
_UPLOAD_SECONDS = 600.0
_TURN_SECONDS = 300.0
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
# The server speaks at least every 15 seconds, if only to say that it is there.
_SILENCE_SECONDS = 45.0

_Model = TypeVar("_Model", bound=BaseModel)
_Page = TypeVar("_Page", bound=Page)


class Client:
    """A context manager. `key` is sent to `url` and nowhere else: redirects are not followed.

    Every method raises ApiUnreachable, AnswerUnexpected, and ApiProblem for what the API itself refuses.
    """

    def __init__(self, url: str, key: str | None = None, *, patience: float = 30.0) -> None:
        self.url = checked_url(url)
        headers = {"User-Agent": f"goldsmith/{__version__}"}
        if key:
            headers["Authorization"] = f"Bearer {checked_key(key)}"
        self._patience = patience
        timeout = httpx.Timeout(patience, connect=min(10.0, patience))
        trust = not is_loopback(self.url)
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=trust)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(
        self,
        recipe: Wanted,
        *,
        parameters: Parameters | None = None,
        lock: dict[str, Any] | None = None,
        lock_use: str = "prefer",
        force: bool = False,
        dry_run: bool = False,
    ) -> Build:
        """Ask for a build of a recipe. One that has ended was released before; a dry run ends with its plan."""
        more = ({"lock": lock} if lock is not None else {}) | ({"dryRun": True} if dry_run else {})
        asked = {**named(recipe, parameters), "lockUse": lock_use, "force": force, **more}
        return self._json(Build, "POST", "/v1/builds", json=asked)

    def submit_lock(self, recipe: Wanted, parameters: Parameters | None = None) -> Build:
        """Ask for a recipe's lock."""
        return self._json(Build, "POST", "/v1/locks", json=named(recipe, parameters))

    def submit_rebuild(self, digest: str, repository: Repository | None = None, *, offline: bool) -> Build:
        """Ask for a released image to be rebuilt and compared. `repository` is for one that another installation
        released."""
        asked: dict[str, Any] = {"offline": offline}
        if repository is not None:
            asked |= {"repository": repository.name, "registry": repository.registry}
        return self._json(Build, "POST", f"/v1/images/{_part(digest)}/rebuilds", json=asked)

    def submit_comparison(self, golden: str, image: str) -> Comparison:
        """Ask for an image of the service's registry to be compared with a golden one."""
        asked = {"golden": golden, "subject": {"image": image}}
        return self._json(Comparison, "POST", "/v1/comparisons", json=asked)

    def upload_comparison(self, golden: str, file: Path, media_type: str, name: str) -> Comparison:
        """Send an inventory or a tar archive to be compared with a golden image. It is streamed. Raises OSError."""
        with file.open("rb") as stream:
            headers = {"Content-Type": media_type, "Content-Length": str(os.fstat(stream.fileno()).st_size)}
            return self._json(
                Comparison,
                "POST",
                "/v1/comparisons",
                params={"golden": golden, "name": name[:_MAX_NAME]},
                headers=headers,
                content=iter(partial(stream.read, _CHUNK), b""),
                # The service answers when its registry has it.
                timeout=httpx.Timeout(self._patience, read=_UPLOAD_SECONDS),
            )

    def comparison_report(self, comparison_id: str) -> bytes:
        """The report of a comparison that was made, as JSON."""
        return self._content(f"/v1/comparisons/{_part(comparison_id)}/report")

    def lock(self, build_id: str) -> bytes:
        """The lock that a build made or used, as JSON."""
        return self._content(f"/v1/builds/{_part(build_id)}/lock")

    def recipe_lock(self, name: str) -> bytes:
        """The lock of a recipe of the catalogue, as JSON."""
        return self._content(f"/v1/recipes/{_part(name)}/lock")

    def builds(self, *, recipe: str | None = None, state: str | None = None, limit: int = 20) -> list[Build]:
        """The newest builds, newest first; pages are joined up to `limit`."""
        wanted = {"recipe": recipe, "state": state, "limit": str(min(limit, 100))}
        given = {name: value for name, value in wanted.items() if value is not None}
        pages = self.pages(BuildPage, "/v1/builds", given)
        return list(islice((one for page in pages for one in page.builds), limit))

    def build(self, build_id: str) -> Build:
        return self._json(Build, "GET", f"/v1/builds/{_part(build_id)}")

    def cancel(self, build_id: str) -> Build:
        return self._json(Build, "POST", f"/v1/builds/{_part(build_id)}/cancel")

    def log(self, build_id: str) -> Iterator[LogLine]:
        """The log as far as it has been written, page by page."""
        after: int | None = 0
        while after is not None:
            page = self._json(
                LogPage,
                "GET",
                f"/v1/builds/{_part(build_id)}/logs",
                params={"after": str(after)},
                headers={"Accept": "application/json"},
            )
            yield from page.lines
            after = page.next if page.lines else None

    def follow(
        self, build_id: str, *, after: int = 0, patience: float = 90.0, on_lost: Callable[[str], None] = lambda _: None
    ) -> Iterator[Event]:
        """Live events until the build has ended; the last one is Ended.

        A lost connection is taken up again after the last event that came, and `on_lost` is told why.

        Raises ApiUnreachable when nothing comes for `patience` seconds.
        """
        last_id, tries, heard = str(after), 0, time.monotonic()
        while True:
            try:
                with self._exchange(
                    "GET",
                    f"/v1/builds/{_part(build_id)}/logs",
                    headers={"Accept": "text/event-stream", "Last-Event-ID": last_id},
                    timeout=httpx.Timeout(self._patience, read=_SILENCE_SECONDS),
                ) as response:
                    require_type(response, "text/event-stream")
                    for event in read_events(response.iter_bytes()):
                        tries, heard = 0, time.monotonic()
                        last_id = event.id or last_id
                        told = meaning(event)
                        if told is not None:
                            yield told
                        if isinstance(told, Ended):
                            return
                reason: ApiUnreachable | ApiProblem = ApiUnreachable(f"{self.url} closed the connection")
            except ApiUnreachable as error:
                reason = error
            except ApiProblem as error:
                if not error.told.retryable:
                    raise
                reason = error
            if time.monotonic() - heard > patience:
                raise ApiUnreachable(reason.detail, hint=f"`goldsmith logs --follow {build_id}` takes it up again")
            on_lost(reason.detail)
            time.sleep(_WAITS[min(tries, len(_WAITS) - 1)])
            tries += 1

    def recipes(self) -> RecipePage:
        """All pages as one."""
        pages = list(self.pages(RecipePage, "/v1/recipes", {"limit": "500"}))
        listed = tuple(one for page in pages for one in page.recipes)
        return RecipePage(recipes=listed, invalid={name: why for page in pages for name, why in page.invalid.items()})

    def image(self, digest: str) -> Image:
        return self._json(Image, "GET", f"/v1/images/{_part(digest)}")

    def provenance(self, digest: str) -> bytes:
        """The Sigstore bundle of an image's provenance, as it was published. It has not been verified."""
        return self._content(f"/v1/images/{_part(digest)}/provenance")

    def attestations(self, digest: str) -> list[bytes]:
        """The Sigstore bundles of everything signed of an image, newest first. They have not been verified."""
        path = f"/v1/images/{_part(digest)}/attestations"
        return [self._content(f"{path}/{_part(one.digest)}") for one in self.attestations_listed(digest)]

    def attestations_listed(self, digest: str) -> tuple[AttestationEntry, ...]:
        """What is signed of an image, newest first; all pages."""
        pages = self.pages(AttestationPage, f"/v1/images/{_part(digest)}/attestations", {"limit": "500"})
        return tuple(one for page in pages for one in page.attestations)

    def bundle(self, digest: str, file: IO[bytes]) -> None:
        """The archive with all evidence of an image, written as it comes. It has not been verified. Raises OSError."""
        with self._exchange("GET", f"/v1/images/{_part(digest)}/bundle") as response:
            for chunk in response.iter_bytes():
                file.write(chunk)

    def inventory(self, digest: str) -> bytes:
        """The inventory of an image, compressed. It has not been verified."""
        return self._content(f"/v1/images/{_part(digest)}/inventory")

    def scan(self, digest: str) -> bytes:
        """The scanner's report on an image, as it was kept. It has not been verified."""
        return self._content(f"/v1/images/{_part(digest)}/scan")

    def manifest(self, digest: str) -> bytes:
        """The manifest of an image. It has not been verified."""
        return self._content(f"/v1/images/{_part(digest)}/manifest")

    def config(self, digest: str) -> bytes:
        """The config of an image, named by the image's digest. It has not been verified."""
        return self._content(f"/v1/images/{_part(digest)}/config")

    def verdict(self, build_id: str) -> bytes:
        """The gate's verdict on a build's image, as JSON."""
        return self._content(f"/v1/builds/{_part(build_id)}/verdict")

    def facts(self, build_id: str) -> bytes:
        """What the gate judged, as JSON."""
        return self._content(f"/v1/builds/{_part(build_id)}/facts")

    def policy(self, recipe: str | None = None) -> PolicyInForce:
        """The policy in force, or what is demanded of a recipe of the catalogue."""
        from builder.policy.in_force import PolicyInForce

        return self._json(PolicyInForce, "GET", "/v1/policies", params={"recipe": recipe} if recipe else {})

    def try_policy(self, asked: dict[str, Any]) -> DryRun:
        """A dry run, asked for in the API's words. It may have to wait for its turn."""
        from builder.verdicts.dry_run import DryRun

        return self._json(DryRun, "POST", "/v1/policies/evaluate", json=asked, timeout=_TURN_SECONDS)

    def submit_exception(self, told: dict[str, Any]) -> ExceptionTold:
        """Ask for an exception, in the API's words."""
        return self._json(ExceptionTold, "POST", "/v1/exceptions", json=told)

    def import_exceptions(self, told: dict[str, Any]) -> tuple[tuple[ExceptionTold, ...], tuple[str, ...]]:
        """Import a supplier's document: what counts, and why the rest does not."""
        made = self._json(Imported, "POST", "/v1/exceptions/imports", json=told)
        return made.exceptions, made.left_out

    def exceptions(self, *, vulnerability: str | None = None, limit: int = 100) -> list[ExceptionTold]:
        """The newest exceptions, newest first; pages are joined up to `limit`."""
        wanted = {"limit": str(min(limit, 100))} | ({"vulnerability": vulnerability} if vulnerability else {})
        pages = self.pages(ExceptionPage, "/v1/exceptions", wanted)
        return list(islice((one for page in pages for one in page.exceptions), limit))

    def revoke_exception(self, exception_id: str) -> ExceptionTold:
        return self._json(ExceptionTold, "DELETE", f"/v1/exceptions/{_part(exception_id)}")

    def findings(self, wanted: dict[str, str], *, limit: int = 100) -> list[FindingTold]:
        """The newest findings in released images, newest first; pages are joined up to `limit`."""
        pages = self.pages(FindingPage, "/v1/findings", {**wanted, "limit": str(min(limit, 500))})
        return list(islice((one for page in pages for one in page.findings), limit))

    def releases(self, wanted: dict[str, str], *, limit: int = 100) -> list[Released]:
        """Releases that were asked for, newest first; pages are joined up to `limit`."""
        pages = self.pages(ReleasedPage, "/v1/provenance", {**wanted, "limit": str(min(limit, 500))})
        return list(islice((one for page in pages for one in page.releases), limit))

    def exported_releases(self, wanted: dict[str, str], form: str) -> bytes:
        """All releases that were asked for, as `jsonl` or `csv`."""
        return self._content(str(httpx.URL("/v1/provenance", params={**wanted, "format": form})))

    def submit_rescan(self) -> Round:
        return self._json(Round, "POST", "/v1/rescans")

    def rescan(self) -> Round:
        """The newest round."""
        return self._json(Round, "GET", "/v1/rescans")

    def trust(self) -> TrustOffer:
        return self._json(TrustOffer, "GET", "/v1/trust")

    def ledger(self, path: str) -> bytes:
        """What the ledger serves, such as `checkpoint` or `tile/0/000`. It has not been verified."""
        return self._content(f"/v1/ledger/{path}")

    def ask(self, model: type[_Model], method: str, path: str, **request: Any) -> _Model:
        """For the routes that have a module of their own."""
        return self._json(model, method, path, **request)

    def pages(self, model: type[_Page], path: str, wanted: dict[str, str]) -> Iterator[_Page]:
        """One page after the other, each asked for when it is needed."""
        following: str | None = str(httpx.URL(path, params=wanted))
        while following is not None:
            page = self._json(model, "GET", following)
            yield page
            following = page.next
            if following is not None and not following.startswith("/v1/"):
                raise AnswerUnexpected(f"{self.url} names a next page that is not its own")

    def _json(self, model: type[_Model], method: str, path: str, **request: Any) -> _Model:
        with self._exchange(method, path, **request) as response:
            require_type(response, "application/json")
            try:
                return model.model_validate_json(read_answer(response))
            except ValidationError as error:
                raise AnswerUnexpected(
                    f"{self.url} answered {method} {path} with JSON that is not a {model.__name__}",
                    hint="the server may be of another version",
                ) from error

    def _content(self, path: str) -> bytes:
        with self._exchange("GET", path) as response:
            return read_answer(response)

    @contextmanager
    def _exchange(self, method: str, path: str, **request: Any) -> Iterator[httpx.Response]:
        try:
            for tries in (1, 2, 3):
                with self._http.stream(method, path, **request) as response:
                    wait = seconds_until_allowed(response) if tries < 3 and "content" not in request else None
                    if wait is None:
                        if not response.is_success:
                            raise refusal(response, self.url, method, path)
                        yield response
                        return
                time.sleep(wait)
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error


def _part(text: str) -> str:
    return quote(text, safe=":")
