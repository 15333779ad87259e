"""Taking a rebuild in: of an image that was released here, or of any that the registry has with its signed record."""

from __future__ import annotations

from builder.errors import Rejected
from builder.image.digests import digest_of
from builder.pipeline.services import Services
from builder.pipeline.signed import signed_record
from builder.recipes.reading import canonical_json
from builder.store import builds, outbox, releases
from builder.store.builds import Submission
from builder.store.schema import Build
from builder.store.states import Purpose


class ImageUnknown(Rejected):
    slug = "image-unknown"
    title = "No image of that digest was released"
    status = 404


class ImageElsewhere(Rejected):
    slug = "image-elsewhere"
    title = "The image is in another registry than this service's"


def refuse_elsewhere(services: Services, registry: str | None) -> None:
    """Raises ImageElsewhere if the image that is meant is not in this service's registry."""
    own = services.settings.registry
    if registry not in (None, own):
        raise ImageElsewhere(
            f"registry: this service works on what is in {own}, not in {registry}",
            hint="ask the service of that registry, or copy the image here with all its referrers",
        )


def submit_rebuild(
    services: Services, digest: str, repository: str | None, *, requester: str, team: str | None, offline: bool
) -> Build:
    """A new build that rebuilds and compares.

    `repository`, below the service's registry, is where an image is that was released by another installation: its
    provenance must be signed by whom the settings name. Raises ImageUnknown, and of such an image as `signed_record`.
    """
    registry = services.settings.registry
    with services.database.read() as session:
        release = releases.of_image(session, digest, registry, repository)
        found = builds.get(session, release.build_id) if release is not None else None
    if release is not None and found is not None:
        repository, name, recipe = release.repository, found.recipe_name, found.recipe
    elif repository is not None:
        record = signed_record(services, services.impatient_registry, services.released(repository), digest)
        name, recipe = record.recipe.metadata.name, canonical_json(record.recipe).decode()
    else:
        raise image_unknown(digest)
    submission = Submission(
        recipe_name=name,
        recipe_digest=digest_of(recipe.encode()),
        recipe=recipe,
        origin="release",
        requester=requester,
        team=team,
        purpose=Purpose.REBUILD,
        subject=digest,
        options={"repository": repository, "offline": offline},
    )
    with services.database.write() as session:
        outbox.refuse_full(session, services.settings.waiting_builds)
        return builds.submit(session, submission)


def image_unknown(digest: str) -> ImageUnknown:
    return ImageUnknown(f"no image with the digest {digest} was released here", hint="`goldsmith images` lists them")
