"""The policy in force, the rules there are, and dry runs: what a policy would say of a stored scan."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from builder.api.access import Caller, Store
from builder.api.asking import asked_evaluation, documented_evaluation
from builder.api.bodies import read_body
from builder.api.images import Digest
from builder.api.problems import documented
from builder.api.turns import Turns
from builder.api.views import View
from builder.pipeline.services import Services
from builder.pipeline.trying import Trial, build_of_image, facts_of_build, try_policy
from builder.policy.described import RuleDescribed, described_rules
from builder.policy.facts import MEDIA_TYPE as FACTS_TYPE
from builder.policy.in_force import PolicyInForce, policy_in_force
from builder.recipes.catalogue import Catalogue
from builder.recipes.model import Name
from builder.store.database import Database
from builder.verdicts.dry_run import DryRun

router = APIRouter(prefix="/v1", tags=["policies"])


class RulesView(View):
    rules: tuple[RuleDescribed, ...]


@router.get("/policies", summary="See the policy in force", responses=documented(401, 404, 422, 500, 503))
def get_policy(
    request: Request,
    _: Caller,
    recipe: Annotated[
        Name | None, Query(description="One of the catalogue: what is demanded of it, its own policy included.")
    ] = None,
) -> PolicyInForce:
    services: Services = request.app.state.services
    catalogue: Catalogue = request.app.state.catalogue
    policy = catalogue.get(recipe).recipe.spec.policy if recipe is not None else None
    return policy_in_force(services.policy, recipe, policy)


@router.get("/policies/rules", summary="See the rules that a policy can name", responses=documented(401))
def get_rules(_: Caller) -> RulesView:
    return RulesView(rules=described_rules())


@router.post(
    "/policies/evaluate",
    summary="Try a policy on a stored scan",
    description="A dry run: it judges as the gate would, decides nothing and keeps nothing. A policy may have 20 "
    "custom rules and 5000 values here, and its custom rules take 10 seconds together.",
    responses=documented(400, 401, 404, 409, 413, 415, 422, 500, 503),
    openapi_extra=documented_evaluation(),
)
async def evaluate(request: Request, caller: Caller) -> DryRun:
    services: Services = request.app.state.services
    turns: Turns = request.app.state.turns
    asked = asked_evaluation(await read_body(request, ("application/json",)))
    trial = Trial(asked.build, asked.image, asked.policy, asked.recipe_policy)
    return await turns.run(caller, lambda: try_policy(services, trial))


@router.get(
    "/builds/{build_id}/facts",
    summary="The facts that the gate judged, as JSON",
    response_class=Response,
    responses=documented(401, 404, 409, 422, 503),
    tags=["builds"],
)
def get_facts(build_id: str, _: Caller, database: Store) -> Response:
    return _facts(database, build_id)


@router.get(
    "/images/{digest}/facts",
    summary="The facts that the gate judged, as JSON",
    response_class=Response,
    responses=documented(401, 404, 409, 422, 503),
    tags=["images"],
)
def get_image_facts(digest: Digest, _: Caller, database: Store) -> Response:
    with database.read() as session:
        build_id = build_of_image(session, digest)
    return _facts(database, build_id)


def _facts(database: Database, build_id: str) -> Response:
    with database.read() as session:
        content, digest = facts_of_build(session, build_id)
    return Response(content, media_type=FACTS_TYPE, headers={"ETag": f'"{digest}"'})
