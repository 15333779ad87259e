"""What can go wrong between Goldsmith and a registry."""

from __future__ import annotations

from builder.errors import Broken, Rejected, Unavailable

CHANGED = "the registry's storage is damaged, or somebody between here and it changes what it says"


class ReferenceInvalid(Rejected):
    slug = "reference-invalid"
    title = "An image reference is not valid"


class CredentialsInvalid(Rejected):
    slug = "registry-credentials-invalid"
    title = "The credentials for a registry cannot be read"


class RegistryUnavailable(Unavailable):
    slug = "registry-unavailable"
    title = "The registry does not answer"


class RegistryRefused(Rejected):
    slug = "registry-refused"
    title = "The registry refuses access"
    status = 403


class ManifestUnknown(Rejected):
    slug = "manifest-unknown"
    title = "The image is not in the registry"
    status = 404


class BlobUnknown(Rejected):
    slug = "blob-unknown"
    title = "The registry does not hold this blob"
    status = 404


class ImageTooLarge(Rejected):
    slug = "image-too-large"
    title = "The image is larger than is fetched"


class DigestMismatch(Broken):
    slug = "digest-mismatch"
    title = "The registry gave other content than its digest says"
    status = 502


class AnswerUnexpected(Broken):
    slug = "registry-answer-unexpected"
    title = "The registry gave an answer that the distribution specification does not know"
    status = 502
