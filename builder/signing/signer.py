"""Sign statements through Sigstore: a short-lived certificate for our identity, and an entry in its log.

One signer serves one job: its certificate, which lives for ten minutes, signs all the statements of a release.
Nothing leaves a signer unverified, because a client that signs does not check what the log answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
import requests
from cryptography import x509
from pydantic import BaseModel, ValidationError
from sigstore import dsse
from sigstore._internal.fulcio.client import ExpiredCertificate, FulcioClientError
from sigstore._internal.rekor import RekorClientError, RekorLogSubmitter
from sigstore._internal.rekor.client import RekorClient
from sigstore._internal.rekor.client_v2 import RekorV2Client
from sigstore.errors import Error as SigstoreError
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import ExpiredIdentity, IdentityError, IdentityToken
from sigstore.sign import Signer as SigstoreSigner
from sigstore.sign import SigningContext

from builder.errors import Broken, GoldsmithError, Unavailable
from builder.signing.deadline import limit_waits, within
from builder.signing.identity import IdentityRefused, IdentitySource, IdentityUnavailable
from builder.signing.statement import Statement
from builder.signing.trust import Trust, client_trust
from builder.signing.verification import BundleMalformed, VerificationFailed, VerifiedStatement, verify_bundle

_AT_ONCE = 4
# Another token may be valid, and the same one by another clock.
_NOT_NOW = (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError)
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")


class SignerUnavailable(Unavailable):
    slug = "signer-unavailable"
    title = "The signing service does not answer"


class SigningFailed(Broken):
    slug = "signing-failed"
    title = "The statement was not signed"


@dataclass(frozen=True)
class SignedBundle:
    """A verified Sigstore bundle, as the JSON to publish, and what it says. `integrated_time` is in UTC."""

    bundle: bytes
    predicate_type: str
    identity: str
    issuer: str
    log_index: int
    integrated_time: datetime | None
    sandbox: bool


@dataclass(frozen=True)
class _Session:
    """A key and its certificate inside sigstore's signer, and the log it submits to."""

    config: ClientTrustConfig
    signer: SigstoreSigner
    log: RekorLogSubmitter


class Signer:
    """Signs with the identity of `identity`, through the instance that `trust` describes, or the public one.

    `time_limit` is in seconds and holds for each statement, identity and certificate included. Not for several
    threads at once: `sign_all` signs side by side.
    """

    def __init__(self, trust: Trust, identity: IdentitySource, *, time_limit: float = 30.0) -> None:
        self._trust = trust
        self._identity = identity
        self._time_limit = time_limit
        self._session: _Session | None = None
        self._expires = datetime.min.replace(tzinfo=UTC)

    def sign(self, statement: Statement) -> SignedBundle:
        """Sign a statement, have it logged, verify the result, and return it.

        Raises SignerUnavailable, IdentityUnavailable, IdentityRefused, TrustInvalid, TrustUnavailable, or
        SigningFailed when the instance answers with something that does not verify.
        """
        payload = statement.canonical()
        try:
            session, bundle = within(self._time_limit, lambda: self._signed(payload))
        except TimeoutError as error:
            raise SignerUnavailable(f"the statement was not signed within {self._time_limit:g} seconds") from error
        self._session = session
        self._expires = bundle.signing_certificate.not_valid_after_utc
        return _verified(bundle, statement, session.config)

    def sign_all(self, statements: Sequence[Statement]) -> list[SignedBundle]:
        """Sign several with one certificate: the first gets it, the others wait for the log side by side.

        Answers the bundles in the order of the statements. Raises as `sign`; then none of them is to be used.
        """
        first, rest = self.sign(statements[0]), statements[1:]
        if not rest:
            return [first]
        with ThreadPoolExecutor(min(len(rest), _AT_ONCE), thread_name_prefix="sign") as pool:
            return [first, *pool.map(self.sign, rest)]

    def _signed(self, payload: bytes) -> tuple[_Session, Bundle]:
        try:
            session = self._session
            if session is None or datetime.now(UTC) + timedelta(seconds=self._time_limit) > self._expires:
                session = self._certified()
            if isinstance(session.log, RekorClient | RekorV2Client):
                # Held per thread, and each statement has its own: there is no public way to it.
                limit_waits(session.log._session, self._time_limit)
            return session, session.signer.sign_dsse(dsse.Statement(payload))
        except (GoldsmithError, TimeoutError):
            raise
        except Exception as error:
            raise _explained(error) from error

    def _certified(self) -> _Session:
        config = client_trust(self._trust)
        try:
            services = config.signing_config
            fulcio, log, authorities = services.get_fulcio(), services.get_tlogs()[0], services.get_tsas()
        except SigstoreError as error:
            raise SignerUnavailable(
                f"the trust configuration has no service for this moment: {error}",
                hint="check this machine's clock, and until when the configuration is valid",
            ) from error
        limit_waits(fulcio.session, self._time_limit)
        context = SigningContext(fulcio=fulcio, rekor=log, trusted_root=config.trusted_root, tsa_clients=authorities)
        token = IdentityToken(self._identity.token())
        # The default cache stays on: without it sigstore certifies one key and signs with another.
        return _Session(config, SigstoreSigner(token, context), log)


def read_signed(content: bytes, trust: Trust, digest: str) -> tuple[SignedBundle, Statement]:
    """A bundle that was signed before, whoever it names, and what it says of the subject with this digest.

    Raises VerificationFailed, and what reading the trust raises.
    """
    try:
        identity, issuer = _named(Bundle.from_json(content).signing_certificate)
    except Exception as error:
        raise BundleMalformed("the bundle that was kept cannot be read") from error
    root = client_trust(trust).trusted_root
    verified = verify_bundle(content, trusted_root=root, identity=identity, issuer=issuer, digest=digest)
    return _told(content, verified), verified.statement


def _told(content: bytes, verified: VerifiedStatement) -> SignedBundle:
    return SignedBundle(
        bundle=content,
        predicate_type=verified.statement.predicate_type,
        identity=verified.identity,
        issuer=verified.issuer,
        log_index=verified.log_index,
        integrated_time=verified.integrated_time,
        sandbox=verified.sandbox,
    )


def _verified(bundle: Bundle, statement: Statement, config: ClientTrustConfig) -> SignedBundle:
    content = bundle.to_json().encode()
    identity, issuer = _named(bundle.signing_certificate)
    try:
        verified = verify_bundle(
            content,
            trusted_root=config.trusted_root,
            identity=identity,
            issuer=issuer,
            digest=statement.subject[0].sha256,
            predicate_type=statement.predicate_type,
        )
    except VerificationFailed as error:
        raise SigningFailed(
            f"the signing service answered with a bundle that does not verify: {error.detail}",
            hint="check that the trusted root belongs to this instance",
        ) from error
    if verified.statement != statement:
        raise SigningFailed("the signing service answered with another statement than the one it was given")
    return _told(content, verified)


def _named(certificate: x509.Certificate) -> tuple[str, str]:
    """Identity and issuer as a certificate states them; empty, and so never verified, where it does not."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        issuer = certificate.extensions.get_extension_for_oid(_ISSUER).value
    except x509.ExtensionNotFound:
        return "", ""
    identities = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier | x509.RFC822Name)]
    stated = issuer.value.decode("utf-8", "replace") if isinstance(issuer, x509.UnrecognizedExtension) else ""
    return (identities[0] if identities else ""), stated


class _Message(BaseModel):
    message: str


def _explained(error: Exception) -> GoldsmithError:
    """The failure in our terms. sigstore loses the services' answers: they are found on the error's cause."""
    match error:
        case IdentityError() | ExpiredIdentity():
            cause = f": {error.__cause__}" if error.__cause__ else ""
            if isinstance(error, ExpiredIdentity) or isinstance(error.__cause__, _NOT_NOW):
                return IdentityUnavailable(
                    f"the identity token is not valid now{cause}",
                    hint="check this machine's clock, and what keeps the token fresh",
                )
            return IdentityRefused(
                f"the identity token cannot be used: {error or 'it has expired'}{cause}",
                hint="it must be a signed token for the audience sigstore",
            )
        case ExpiredCertificate():
            return SignerUnavailable("the signing certificate expired before the statement was signed")
        case FulcioClientError():
            return _answered("the certificate authority", error, error.__cause__, asked_for_identity=True)
        case RekorClientError():
            return _answered("the transparency log", error, error.__context__, asked_for_identity=False)
        case requests.RequestException():
            where = error.request.url if error.request is not None else "the signing service"
            what = "does not answer in time" if isinstance(error, requests.Timeout) else "cannot be reached"
            return SignerUnavailable(f"{where} {what}: {type(error).__name__}")
        case _:
            return SigningFailed(f"the statement was not signed: {error or type(error).__name__}")


def _answered(who: str, error: Exception, cause: BaseException | None, *, asked_for_identity: bool) -> GoldsmithError:
    response = cause.response if isinstance(cause, requests.HTTPError) else None
    if response is None:
        return SigningFailed(f"{who} gave an answer that cannot be used: {error}")
    try:
        said = _Message.model_validate_json(response.content).message[:300]
    except ValidationError:
        said = response.reason or "no explanation"
    text = f"{who} answered {response.status_code}: {said}"
    if response.status_code >= 500 or response.status_code == 429:
        return SignerUnavailable(text)
    if asked_for_identity and response.status_code in (400, 401, 403):
        return IdentityRefused(text, hint="check that the instance trusts the issuer of this identity")
    return SigningFailed(text, hint="check the addresses in the trust configuration")
