"""Taking a rebuild in: of an image that was released here."""

from __future__ import annotations

from sqlalchemy.orm import Session

from builder.errors import Rejected
from builder.store import builds, releases
from builder.store.builds import Submission
from builder.store.schema import Build
from builder.store.states import Purpose


class ImageUnknown(Rejected):
    slug = "image-unknown"
    title = "No image of that digest was released"
    status = 404


def submit_rebuild(session: Session, digest: str, *, registry: str, requester: str, offline: bool) -> Build:
    """A new build that rebuilds and compares. Raises ImageUnknown."""
    release = releases.of_image(session, digest, registry)
    if release is None:
        raise image_unknown(digest)
    released = builds.get(session, release.build_id)
    submission = Submission(
        recipe_name=released.recipe_name,
        recipe_digest=released.recipe_digest,
        recipe=released.recipe,
        origin="release",
        requester=requester,
        purpose=Purpose.REBUILD,
        subject=digest,
        options={"repository": release.repository, "offline": offline},
    )
    return builds.submit(session, submission)


def image_unknown(digest: str) -> ImageUnknown:
    return ImageUnknown(f"no image with the digest {digest} was released here", hint="`goldsmith builds` lists them")
