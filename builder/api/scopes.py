"""Which scope each route needs: the one table. A route that is not in it is closed to everybody."""

from __future__ import annotations

from dataclasses import dataclass

from builder.store.scopes import Scope


@dataclass(frozen=True)
class Needs:
    """One of the scopes. What changes something is always in the audit log; of what is read, that which is `audited`.
    Without a scope a route is open to anyone."""

    scopes: tuple[Scope, ...]
    audited: bool = False


# Who may ask with these has a worker do something.
JOBS = frozenset({Scope.BUILDS_WRITE, Scope.COMPARISONS_WRITE})
_OPEN = Needs(())
# Whatever scopes it has, or none.
ANYBODY_KNOWN = Needs(tuple(Scope))
_BUILD = Needs((Scope.BUILDS_WRITE,))
_SEE_BUILDS = Needs((Scope.BUILDS_READ,))
_EVIDENCE = Needs((Scope.PROVENANCE_READ,), audited=True)
# The ledger says nothing of an image but digests, and who checks the whole of it asks ten thousand times.
_LEDGER = Needs((Scope.PROVENANCE_READ,))
_COMPARE = Needs((Scope.COMPARISONS_WRITE,))
# A comparison is a record, for auditors; and who asked for it must see what came of it.
_COMPARED = Needs((Scope.PROVENANCE_READ, Scope.COMPARISONS_WRITE), audited=True)
_ADMIN = Needs((Scope.ADMIN,), audited=True)

ROUTES = {
    "GET /healthz": _OPEN,
    "GET /readyz": _OPEN,
    "GET /v1/trust": _OPEN,
    "GET /openapi.json": ANYBODY_KNOWN,
    "GET /problems/{slug}": ANYBODY_KNOWN,
    "GET /metrics": _SEE_BUILDS,
    "GET /v1/whoami": ANYBODY_KNOWN,
    "POST /v1/builds": _BUILD,
    "GET /v1/builds": _SEE_BUILDS,
    "GET /v1/builds/{build_id}": _SEE_BUILDS,
    "GET /v1/builds/{build_id}/lock": _SEE_BUILDS,
    "POST /v1/builds/{build_id}/cancel": _BUILD,
    "POST /v1/builds/{build_id}/retry": _BUILD,
    "GET /v1/builds/{build_id}/logs": _SEE_BUILDS,
    "GET /v1/builds/{build_id}/verdict": _SEE_BUILDS,
    "GET /v1/builds/{build_id}/facts": _SEE_BUILDS,
    "POST /v1/locks": _BUILD,
    "POST /v1/images/{digest}/rebuilds": _BUILD,
    "GET /v1/images/{digest}/rebuilds": _EVIDENCE,
    "POST /v1/rescans": _BUILD,
    "GET /v1/rescans": _EVIDENCE,
    "GET /v1/recipes": _SEE_BUILDS,
    "GET /v1/recipes/schema": _SEE_BUILDS,
    "GET /v1/recipes/{name}": _SEE_BUILDS,
    "GET /v1/recipes/{name}/lock": _SEE_BUILDS,
    "GET /v1/policies": _SEE_BUILDS,
    "GET /v1/policies/rules": _SEE_BUILDS,
    # A dry run: it keeps nothing.
    "POST /v1/policies/evaluate": _SEE_BUILDS,
    "GET /v1/provenance": _EVIDENCE,
    "GET /v1/images/{digest}": _EVIDENCE,
    "GET /v1/images/{digest}/provenance": _EVIDENCE,
    "GET /v1/images/{digest}/sbom": _EVIDENCE,
    "GET /v1/images/{digest}/scan": _EVIDENCE,
    "GET /v1/images/{digest}/inventory": _EVIDENCE,
    "GET /v1/images/{digest}/log": _EVIDENCE,
    "GET /v1/images/{digest}/record": _EVIDENCE,
    "GET /v1/images/{digest}/manifest": _EVIDENCE,
    "GET /v1/images/{digest}/config": _EVIDENCE,
    "GET /v1/images/{digest}/attestations": _EVIDENCE,
    "GET /v1/images/{digest}/attestations/{attestation}": _EVIDENCE,
    "GET /v1/images/{digest}/bundle": _EVIDENCE,
    "GET /v1/images/{digest}/facts": _EVIDENCE,
    # It says what the evidence comes to, and keeps nothing.
    "POST /v1/verifications": _EVIDENCE,
    "GET /v1/findings": _EVIDENCE,
    "GET /v1/ledger/checkpoint": _LEDGER,
    "GET /v1/ledger/checkpoints/{size}": _LEDGER,
    "GET /v1/ledger/key": _LEDGER,
    "GET /v1/ledger/entries/{index}": _LEDGER,
    "GET /v1/ledger/entries/{index}/record": _EVIDENCE,
    "GET /v1/ledger/proofs/inclusion": _LEDGER,
    "GET /v1/ledger/proofs/consistency": _LEDGER,
    "GET /v1/ledger/tile/{tile}": _LEDGER,
    # A witness may read and no more: what it adds counts by its own signature.
    "POST /v1/ledger/cosignatures": _LEDGER,
    "POST /v1/comparisons": _COMPARE,
    "GET /v1/comparisons": _COMPARED,
    "GET /v1/images/{digest}/comparisons": _COMPARED,
    "GET /v1/comparisons/{comparison_id}": _COMPARED,
    "GET /v1/comparisons/{comparison_id}/report": _COMPARED,
    # An exception weakens the gate for everybody.
    "POST /v1/exceptions": _ADMIN,
    "POST /v1/exceptions/imports": _ADMIN,
    "DELETE /v1/exceptions/{exception_id}": _ADMIN,
    # Notices tell what is released and found, and go to where their maker says.
    "POST /v1/webhooks": _ADMIN,
    "GET /v1/webhooks": _ADMIN,
    "GET /v1/webhooks/{webhook_id}": _ADMIN,
    "DELETE /v1/webhooks/{webhook_id}": _ADMIN,
    "POST /v1/webhooks/{webhook_id}/test": _ADMIN,
    "GET /v1/webhooks/{webhook_id}/deliveries": _ADMIN,
    "GET /v1/webhooks/{webhook_id}/deliveries/{number}": _ADMIN,
    "POST /v1/webhooks/{webhook_id}/deliveries/{number}/replay": _ADMIN,
    "GET /v1/audit": _ADMIN,
    "GET /v1/exceptions": _EVIDENCE,
    "GET /v1/exceptions/{exception_id}": _EVIDENCE,
    "GET /v1/exceptions/{exception_id}/document": _EVIDENCE,
}
