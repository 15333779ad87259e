"""A registry that lies, stalls or fishes for passwords gets nothing and is found out."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.image.digests import digest_of
from builder.image.documents import EMPTY_DESCRIPTOR, Descriptor, Manifest
from builder.registry.access import Access
from builder.registry.client import RegistryClient
from builder.registry.credentials import CredentialSource, GivenCredentials
from builder.registry.errors import AnswerUnexpected, BlobUnknown, DigestMismatch, RegistryRefused, RegistryUnavailable
from builder.registry.reference import Repository
from tests.integration.hostile_server import Answer, Request, answering

SECRET = "canary-51c"
BLOB = Descriptor(media_type="text/plain", digest=digest_of(b"content"), size=7)
MANIFEST = Manifest(config=EMPTY_DESCRIPTOR, layers=()).to_bytes()


class ForAnyRegistry:
    def find(self, registry: str) -> object:
        return GivenCredentials(registry, "ci", SECRET).find(registry)


def client(directory: Path, credentials: CredentialSource | None = None, **options: object) -> RegistryClient:
    options.setdefault("attempts", 2)
    given = credentials or ForAnyRegistry()
    return RegistryClient(Access(credentials=given, **options), lock_directory=directory)  # type: ignore[arg-type]


def challenge(realm: str) -> Answer:
    scope = 'scope="repository:app:pull"'
    return Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="registry",{scope}'})


def test_a_token_is_fetched_once_and_used_for_its_scope(tmp_path: Path) -> None:
    def answer(request: Request) -> Answer:
        if request.path.startswith("/token"):
            return Answer(body=json.dumps({"token": "t0ken", "expires_in": 300}).encode())
        if request.headers.get("authorization") != "Bearer t0ken":
            return challenge(f"http://{server.address}/token")
        return Answer(headers={"Docker-Content-Digest": digest_of(MANIFEST)}, body=MANIFEST)

    with answering(answer) as server, client(tmp_path) as registry:
        for _ in range(3):
            registry.manifests.get(Repository(server.address, "app").tagged("a"))
    asked = [request for request in server.requests if request.path.startswith("/token")]
    assert len(asked) == 1
    assert asked[0].headers["authorization"].startswith("Basic ")
    assert "scope=repository%3Aapp%3Apull" in asked[0].path


@pytest.mark.parametrize(
    ("realm", "says"),
    [
        ("http://tokens.example/token", "without TLS"),
        ("ftp://127.0.0.1/token", "without TLS"),
        ("", "without TLS"),
        ("http://user:pw@127.0.0.1/token", "password in it"),
        ("http://[", "without TLS"),
        ("http://127.0.0.1:port/", "not valid"),
    ],
)
def test_a_realm_that_would_leak_is_not_asked(tmp_path: Path, realm: str, says: str) -> None:
    with (
        answering(lambda _: challenge(realm)) as server,
        client(tmp_path) as registry,
        pytest.raises((RegistryRefused, AnswerUnexpected), match=says) as refused,
    ):
        registry.manifests.get(Repository(server.address, "app").tagged("a"))
    assert server.sent("authorization") == []
    assert SECRET not in str(refused.value)


def test_a_realm_that_redirects_gets_no_second_request(tmp_path: Path) -> None:
    with answering(lambda _: Answer()) as thief:

        def answer(request: Request) -> Answer:
            if request.path.startswith("/token"):
                return Answer(307, {"Location": f"http://{thief.address}/token"})
            return challenge(f"http://{server.address}/token")

        with (
            answering(answer) as server,
            client(tmp_path) as registry,
            pytest.raises(RegistryRefused, match="redirects elsewhere"),
        ):
            registry.manifests.get(Repository(server.address, "app").tagged("a"))
    assert thief.requests == []


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"token":"a\\nb"}', b'{"token":5}', b"x" * 2_000_000])
def test_an_answer_that_is_no_token_is_refused_unquoted(tmp_path: Path, answer: bytes) -> None:
    def answers(request: Request) -> Answer:
        if request.path.startswith("/token"):
            return Answer(body=answer)
        return challenge(f"http://{server.address}/token")

    with answering(answers) as server, client(tmp_path) as registry, pytest.raises(AnswerUnexpected, match="token"):
        registry.manifests.get(Repository(server.address, "app").tagged("a"))


def test_storage_that_a_blob_is_redirected_to_sees_no_credentials(tmp_path: Path) -> None:
    with answering(lambda _: Answer(body=b"content")) as storage:

        def answer(request: Request) -> Answer:
            if "authorization" not in request.headers:
                return Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
            return Answer(307, {"Location": f"http://{storage.address}/blob"})

        with answering(answer) as server, client(tmp_path) as registry:
            assert registry.blobs.fetch(Repository(server.address, "app"), BLOB) == b"content"
    assert storage.sent("authorization") == []
    assert len(storage.requests) == 1
    assert len(server.sent("authorization")) == 1


def test_a_redirect_without_tls_to_another_machine_is_not_followed(tmp_path: Path) -> None:
    moved = Answer(302, {"Location": "http://storage.example/blob"})
    with (
        answering(lambda _: moved) as server,
        client(tmp_path) as registry,
        pytest.raises(RegistryRefused, match="without TLS"),
    ):
        registry.blobs.fetch(Repository(server.address, "app"), BLOB)


def test_an_address_that_is_none_is_not_followed(tmp_path: Path) -> None:
    with (
        answering(lambda _: Answer(302, {"Location": "http://x:port/"})) as server,
        client(tmp_path) as registry,
        pytest.raises(RegistryUnavailable, match="Invalid port"),
    ):
        registry.blobs.fetch(Repository(server.address, "app"), BLOB)
    opened = Answer(202, {"Location": "http://x:port/"})
    with (
        answering(lambda request: opened if request.method == "POST" else Answer(404)) as server,
        client(tmp_path) as registry,
        pytest.raises(AnswerUnexpected, match="not valid"),
    ):
        registry.blobs.push_bytes(Repository(server.address, "app"), b"content", "text/plain")


def test_an_answer_that_drips_in_for_ever_is_given_up(tmp_path: Path) -> None:
    dripping = Answer(body=MANIFEST, seconds_between_bytes=0.2)
    with (
        answering(lambda _: dripping) as server,
        client(tmp_path, patience=0.5, attempts=1) as registry,
        pytest.raises(RegistryUnavailable, match="too long"),
    ):
        registry.manifests.get(Repository(server.address, "app").tagged("a"))


def test_redirects_in_a_circle_end(tmp_path: Path) -> None:
    with (
        answering(lambda _: Answer(302, {"Location": "/v2/again"})) as server,
        client(tmp_path) as registry,
        pytest.raises(AnswerUnexpected, match="circles"),
    ):
        registry.blobs.fetch(Repository(server.address, "app"), BLOB)
    assert len(server.requests) <= 7


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(body=b"c0ntent"), DigestMismatch),
        (Answer(body=b"content and more"), DigestMismatch),
        (Answer(body=b"cont"), RegistryUnavailable),
        (Answer(body=b"cont", claimed_length=7), RegistryUnavailable),
        (Answer(404), BlobUnknown),
        (Answer(500), RegistryUnavailable),
        (Answer(418), AnswerUnexpected),
    ],
)
def test_content_that_is_not_the_digests_is_never_taken(tmp_path: Path, answer: Answer, error: type[Exception]) -> None:
    with answering(lambda _: answer) as server, client(tmp_path) as registry, pytest.raises(error):
        registry.blobs.pull(Repository(server.address, "app"), BLOB, tmp_path / "blob")
    assert not (tmp_path / "blob").exists()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(headers={"Docker-Content-Digest": digest_of(b"other")}, body=MANIFEST), DigestMismatch),
        (Answer(body=b"{" + b" " * 5_000_000), AnswerUnexpected),
    ],
)
def test_a_manifest_that_is_not_its_digest_is_refused(tmp_path: Path, answer: Answer, error: type[Exception]) -> None:
    with answering(lambda _: answer) as server, client(tmp_path) as registry, pytest.raises(error):
        registry.manifests.get(Repository(server.address, "app").tagged("a"))


def test_a_manifest_asked_for_by_digest_must_be_it(tmp_path: Path) -> None:
    with (
        answering(lambda _: Answer(body=MANIFEST)) as server,
        client(tmp_path) as registry,
        pytest.raises(DigestMismatch),
    ):
        registry.manifests.get(Repository(server.address, "app").at(digest_of(b"another")))


def test_a_manifest_taken_and_not_kept_is_found_out(tmp_path: Path) -> None:
    stored = Answer(201, {"Docker-Content-Digest": digest_of(MANIFEST)})
    with (
        answering(lambda request: stored if request.method == "PUT" else Answer(404)) as server,
        client(tmp_path) as registry,
        pytest.raises(DigestMismatch, match="now gives nothing"),
    ):
        registry.manifests.put(Repository(server.address, "app").tagged("a"), MANIFEST)


def failing_first(times: int, then: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    left = [times]

    def answer(request: Request) -> Answer:
        if left[0]:
            left[0] -= 1
            return Answer(503, {"Retry-After": "0"})
        return then(request)

    return answer


def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_not_for_ever(tmp_path: Path) -> None:
    with (
        answering(failing_first(2, lambda _: Answer(body=b"content"))) as server,
        client(tmp_path, attempts=4) as registry,
    ):
        assert registry.blobs.fetch(Repository(server.address, "app"), BLOB) == b"content"
        assert len(server.requests) == 3
    with answering(lambda _: Answer(503)) as server, client(tmp_path, attempts=3) as registry:
        with pytest.raises(RegistryUnavailable, match="after 3 attempts"):
            registry.ping(server.address)
        assert len(server.requests) == 3


def test_an_upload_is_sent_again_whole_after_a_failure(tmp_path: Path) -> None:
    content = bytes(3_000_000)
    descriptor = Descriptor(media_type="x", digest=digest_of(content), size=len(content))
    (tmp_path / "file").write_bytes(content)
    puts: list[int] = []

    def answer(request: Request) -> Answer:
        if request.method == "HEAD":
            return Answer(200, claimed_length=len(content)) if len(puts) == 2 else Answer(404)
        if request.method == "POST":
            return Answer(202, {"Location": "/v2/app/blobs/uploads/1?state=x"})
        puts.append(int(request.headers["content-length"]))
        return Answer(201) if len(puts) == 2 else Answer(502)

    with answering(answer) as server, client(tmp_path) as registry:
        registry.blobs.push(Repository(server.address, "app"), tmp_path / "file", descriptor)
    assert puts == [len(content)] * 2
    assert any(f"state=x&digest={descriptor.digest}" in request.path for request in server.requests)


def test_what_a_registry_says_cannot_trick_a_terminal(tmp_path: Path) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "\x1b[2J" + "x" * 5000}]}).encode()
    with (
        answering(lambda _: Answer(403, body=body)) as server,
        client(tmp_path) as registry,
        pytest.raises(RegistryRefused, match="DENIED") as refused,
    ):
        registry.ping(server.address)
    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) < 600
    assert SECRET not in str(refused.value)


def test_a_registry_with_the_referrers_api_needs_no_tag(tmp_path: Path) -> None:
    subject = Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=digest_of(b"s"), size=1)
    artifact = Manifest(config=EMPTY_DESCRIPTOR, layers=(), subject=subject, artifact_type="text/x")
    stored = artifact.descriptor()
    listed = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
    second = json.dumps({**listed, "manifests": [json.loads(stored.to_bytes())]}).encode()

    def answer(request: Request) -> Answer:
        if request.method == "PUT":
            return Answer(201, {"OCI-Subject": subject.digest})
        if "/referrers/" in request.path and "page=2" not in request.path:
            link = {"Link": f'</v2/app/referrers/{subject.digest}?page=2>; rel="next"'}
            return Answer(headers=link, body=json.dumps(listed).encode())
        return Answer(body=second if "/referrers/" in request.path else artifact.to_bytes())

    with answering(answer) as server, client(tmp_path) as registry:
        registry.referrers.attach(Repository(server.address, "app"), artifact)
    assert [request.path for request in server.requests if request.method == "PUT"] == [
        f"/v2/app/manifests/{stored.digest}"
    ]
    assert hashlib.sha256(artifact.to_bytes()).hexdigest() in stored.digest
