"""One HTTP exchange with a registry: authentication, retries, redirects, time limits and errors, in one place."""

from __future__ import annotations

import base64
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from builder.image.documents import MAX_DOCUMENT
from builder.registry.access import Access
from builder.registry.errors import AnswerUnexpected, RegistryRefused, RegistryUnavailable
from builder.registry.reach import guarded
from builder.registry.reference import Repository, is_loopback
from builder.registry.tokens import Challenge, Token, fetch_token, parse_challenge

_TRANSIENT = (429, 500, 502, 503, 504)
_MAX_REDIRECTS = 5
_LONGEST_WAIT = 10.0

_Result = TypeVar("_Result")
Body = bytes | Callable[[], Iterator[bytes]]
"""A request's body: bytes, or a function that gives it anew in chunks each time it has to be sent."""


class _Retry(Exception):
    """An attempt failed in a way that another may not; `wait` is what the registry asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _ErrorList(BaseModel):
    class Item(BaseModel):
        code: str = ""
        message: str = ""

    errors: list[Item] = []


class Session:
    """Connections and tokens for any number of registries. Threads may share one. Close it after use."""

    def __init__(self, access: Access) -> None:
        self.access = access
        verify = ssl.create_default_context(cafile=access.ca_file)
        # trust_env would let .netrc and proxy variables add credentials and hosts that nobody named.
        self._client = httpx.Client(
            verify=verify, trust_env=False, timeout=httpx.Timeout(access.patience, connect=min(10.0, access.patience))
        )
        self._tokens: dict[tuple[str, str], Token] = {}
        self._challenges: dict[tuple[str, str], Challenge] = {}
        self._guard = threading.Lock()

    def close(self) -> None:
        self._client.close()

    def retrying(self, registry: str, attempt: Callable[[], _Result]) -> _Result:
        """Call `attempt`, which must be idempotent, again after a passing failure. Raises RegistryUnavailable."""
        for number in range(1, self.access.attempts + 1):
            try:
                return attempt()
            except (httpx.TransportError, _Retry) as error:
                reason = str(error) or type(error).__name__
                if number == self.access.attempts:
                    raise RegistryUnavailable(
                        f"{registry} does not answer as it should after {number} attempts: {reason}",
                        hint="check that the registry runs and can be reached from here",
                    ) from error
                asked = error.wait if isinstance(error, _Retry) else 0.0
                backoff = random.uniform(0.5, 1.0) * 0.2 * 2**number  # noqa: S311
                time.sleep(min(max(asked, backoff), _LONGEST_WAIT))
        raise AssertionError("a session makes at least one attempt")

    def fetch(
        self,
        method: str,
        repository: Repository,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        accept: tuple[int, ...] = (200,),
        push: bool = False,
    ) -> tuple[httpx.Response, bytes]:
        """One idempotent exchange, retried, with an answer of at most 4 MiB. `path` stands below /v2/."""

        def attempt() -> tuple[httpx.Response, bytes]:
            with self.exchange(
                method, repository, path, headers=headers, body=body, accept=accept, push=push
            ) as answer:
                return answer, read_bounded(answer, repository.registry, self.access.patience)

        return self.retrying(repository.registry, attempt)

    @contextmanager
    def exchange(
        self,
        method: str,
        repository: Repository,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        accept: tuple[int, ...] = (200,),
        push: bool = False,
    ) -> Iterator[httpx.Response]:
        """One exchange with its answer's body still to be read. `path` is below /v2/, or an address the registry gave.

        An answer outside `accept` is an error. Use inside `retrying`. Raises RegistryRefused and AnswerUnexpected.
        """
        registry = repository.registry
        url = _join(registry, httpx.URL(self.access.base_url(registry) + "/v2/"), path)
        for hop in range(_MAX_REDIRECTS + 1):
            self._check_address(registry, url)
            response = self._send(method, registry, url, repository, headers, body, push=push)
            try:
                if not (response.is_redirect and method in ("GET", "HEAD") and response.has_redirect_location):
                    self._check(response, method, repository, accept)
                    yield response
                    return
            finally:
                response.close()
            if hop == _MAX_REDIRECTS:
                break
            url = _join(registry, url, response.headers["location"])
        raise AnswerUnexpected(f"{registry} redirects in circles")

    def _send(
        self,
        method: str,
        registry: str,
        url: httpx.URL,
        repository: Repository,
        headers: Mapping[str, str] | None,
        body: Body | None,
        *,
        push: bool,
    ) -> httpx.Response:
        # Nobody but the registry itself sees its tokens: blobs are often redirected to somebody's storage.
        own = url.netloc.decode("ascii", "replace") == registry
        scope = f"repository:{repository.name}:{'pull,push,delete' if push else 'pull'}" if repository.name else ""
        first = self._authorization(registry, scope) if own else None
        response = self._once(method, registry, url, headers, body, first)
        if response.status_code != 401 or not own:
            return response
        response.close()
        challenge = parse_challenge(registry, response.headers.get("www-authenticate", ""))
        with self._guard:
            self._challenges[registry, scope] = challenge
            self._tokens.pop((registry, scope), None)
        return self._once(method, registry, url, headers, body, self._authorization(registry, scope))

    def _once(
        self,
        method: str,
        registry: str,
        url: httpx.URL,
        headers: Mapping[str, str] | None,
        body: Body | None,
        authorization: str | None,
    ) -> httpx.Response:
        sent = dict(headers or {})
        # A compressed answer would be neither the digest's content nor bounded.
        sent["Accept-Encoding"] = "identity"
        if authorization:
            sent["Authorization"] = authorization
        content = body() if callable(body) else body
        reach = guarded(self.access, registry)
        request = self._client.build_request(method, url, headers=sent, content=content, extensions=reach)
        return self._client.send(request, stream=True, follow_redirects=False)

    def _authorization(self, registry: str, scope: str) -> str | None:
        with self._guard:
            challenge = self._challenges.get((registry, scope))
            token = self._tokens.get((registry, scope))
        if challenge is None:
            return None
        if token is not None and token.expires > time.monotonic():
            return f"Bearer {token.value}"
        credentials = self.access.credentials.find(registry)
        if challenge.scheme == "basic":
            if credentials is None:
                raise RegistryRefused(f"{registry} asks for a user name and a password, and there are none for it")
            pair = f"{credentials.username}:{credentials.password}".encode()
            return f"Basic {base64.b64encode(pair).decode('ascii')}"
        token = fetch_token(self._client, self.access, registry, challenge, credentials)
        with self._guard:
            self._tokens[registry, scope] = token
        return f"Bearer {token.value}"

    def _check_address(self, registry: str, url: httpx.URL) -> None:
        host = url.netloc.decode("ascii", "replace")
        if host == registry and str(url).startswith(self.access.base_url(registry)):
            return
        local = is_loopback(host)
        if local and not is_loopback(registry):
            raise RegistryRefused(f"{registry} sends requests on to this machine, which is not followed")
        if url.scheme != "https" and not (url.scheme == "http" and (local or host in self.access.insecure)):
            raise RegistryRefused(
                f"{registry} sends requests on to {host or 'nowhere'} without TLS, which is not followed"
            )

    def _check(self, response: httpx.Response, method: str, repository: Repository, accept: tuple[int, ...]) -> None:
        status = response.status_code
        if status in accept:
            return
        where = str(repository) if repository.name else repository.registry
        said = _said(response)
        if status in (401, 403):
            credentials = self.access.credentials.find(repository.registry)
            raise RegistryRefused(
                f"{where} refuses {method} to {credentials or 'a request without credentials'} ({status}{said})",
                hint="check the credentials and the rights on the repository",
            )
        if status in _TRANSIENT:
            wait = response.headers.get("retry-after", "")
            raise _Retry(f"it answered {method} with {status}{said}", float(wait) if wait.isdigit() else 0.0)
        raise AnswerUnexpected(f"{where} answered {method} with {status}{said}")


def _join(registry: str, base: httpx.URL, address: str) -> httpx.URL:
    try:
        return base.join(address)
    except httpx.InvalidURL as error:
        raise AnswerUnexpected(f"{registry} sends requests on to an address that is not valid") from error


def read_bounded(response: httpx.Response, registry: str, patience: float) -> bytes:
    """A whole answer of at most 4 MiB, within `patience` seconds: a timeout between bytes alone never ends a drip."""
    body = b""
    deadline = time.monotonic() + patience
    for chunk in response.iter_raw():
        body += chunk
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("an answer takes too long")
        if len(body) > MAX_DOCUMENT:
            raise AnswerUnexpected(f"{registry} gave a document of more than {MAX_DOCUMENT} bytes")
    return body


def _said(response: httpx.Response) -> str:
    """The registry's own words, shortened and without anything a terminal would act on."""
    try:
        body = b""
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > 64 * 1024:
                break
        items = _ErrorList.model_validate_json(body).errors
    except (ValidationError, httpx.TransportError, httpx.StreamError):
        return ""
    text = "; ".join(f"{item.code}: {item.message}" for item in items)[:300]
    return ", " + "".join(c if c.isprintable() else "?" for c in text) if text else ""
