"""What the OpenAPI document shows: a request of each kind, and which answer leads to which request. All are tested."""

from __future__ import annotations

from typing import Any

_IMAGE = "sha256:" + "5c" * 32
_RECIPE = {
    "apiVersion": "goldsmith/v1", "kind": "Image", "metadata": {"name": "mine"},
    "spec": {"base": {"recipe": "debian"}, "packages": ["tini"], "publish": {"repository": "golden/mine"}},
}  # fmt: skip
_COMMIT = {"repository": "https://git.example/acme/images", "ref": "main", "path": "images/web.yaml"}
_RISK = {
    "owner": "security@example.org", "reason": "the vulnerable code is never reached",
    "expires": "2027-01-31T00:00:00Z",
}  # fmt: skip

# Of the JSON bodies, by route and by name.
REQUESTS: dict[str, dict[str, Any]] = {
    "POST /v1/builds": {
        "by name": {"recipe": "web"},
        "with parameters": {"recipe": "web", "parameters": {}},
        "a whole recipe": {"recipe": _RECIPE, "priority": "low"},
        "of a commit": _COMMIT,
        "a dry run": {"recipe": "web", "dryRun": True},
    },
    "POST /v1/locks": {"by name": {"recipe": "web"}, "a whole recipe": {"recipe": _RECIPE}, "of a commit": _COMMIT},
    "POST /v1/images/{digest}/rebuilds": {
        "plain": {}, "offline": {"offline": True}, "of another installation": {"repository": "golden/web"},
    },
    "POST /v1/comparisons": {
        "an image": {"golden": _IMAGE, "subject": {"image": "127.0.0.1:5000/golden/web:latest"}},
    },
    "POST /v1/exceptions": {
        "an accepted risk": {"vulnerability": "CVE-2023-4911", "package": "libc6", **_RISK},
        "not affected": {
            "vulnerability": "CVE-2023-4911", "recipe": "web", "status": "not_affected",
            "justification": "vulnerable_code_not_in_execute_path", **_RISK,
        },
    },
    "POST /v1/exceptions/imports": {
        "a supplier's document": {
            "document": {
                "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://supplier.example/vex/1",
                "author": "supplier", "timestamp": "2026-01-01T00:00:00Z", "version": 1,
                "statements": [
                    {
                        "vulnerability": {"name": "CVE-2023-4911"}, "products": [{"@id": "pkg:deb/debian/libc6"}],
                        "status": "not_affected", "justification": "vulnerable_code_not_present",
                    }
                ],
            },
            **_RISK,
        },
    },
    "POST /v1/policies/evaluate": {
        "an image by another policy": {
            "image": _IMAGE,
            "policy": "apiVersion: goldsmith/v1\nkind: Policy\nmetadata: {name: strict}\nspec: {}\n",
        },
    },
    "POST /v1/verifications": {
        "by a policy": {
            "digest": _IMAGE,
            "policy": {
                "apiVersion": "goldsmith/v1", "kind": "VerificationPolicy", "metadata": {"name": "production"},
                "spec": {"require": ["all"], "hermetic": True, "maxAgeDays": 90},
            },
        },
    },
    "POST /v1/webhooks": {
        "builds and findings": {"url": "https://ci.example/hook", "events": ["build.*", "findings.risen"]},
    },
}  # fmt: skip

_BUILD = (
    "GET /v1/builds/{build_id}", "GET /v1/builds/{build_id}/logs", "GET /v1/builds/{build_id}/lock",
    "GET /v1/builds/{build_id}/verdict", "GET /v1/builds/{build_id}/facts", "POST /v1/builds/{build_id}/cancel",
    "POST /v1/builds/{build_id}/retry",
)  # fmt: skip
_HOOK = (
    "GET /v1/webhooks/{webhook_id}", "POST /v1/webhooks/{webhook_id}/test",
    "GET /v1/webhooks/{webhook_id}/deliveries", "DELETE /v1/webhooks/{webhook_id}",
)  # fmt: skip
_COMPARISON = ("GET /v1/comparisons/{comparison_id}", "GET /v1/comparisons/{comparison_id}/report")
_EXCEPTION = (
    "GET /v1/exceptions/{exception_id}", "GET /v1/exceptions/{exception_id}/document",
    "DELETE /v1/exceptions/{exception_id}",
)  # fmt: skip

# Of which route's answer, with which status, what stands for the parameter of which others.
LINKS: tuple[tuple[str, int, str, str, tuple[str, ...]], ...] = (
    ("POST /v1/builds", 202, "build_id", "/id", _BUILD),
    ("POST /v1/builds", 200, "build_id", "/id", _BUILD),
    ("POST /v1/locks", 202, "build_id", "/id", _BUILD),
    ("POST /v1/builds/{build_id}/retry", 202, "build_id", "/id", _BUILD),
    ("GET /v1/builds", 200, "build_id", "/builds/0/id", _BUILD),
    ("POST /v1/images/{digest}/rebuilds", 202, "build_id", "/id", _BUILD),
    ("GET /v1/images/{digest}", 200, "build_id", "/build", _BUILD),
    ("POST /v1/comparisons", 202, "comparison_id", "/id", _COMPARISON),
    ("POST /v1/exceptions", 202, "exception_id", "/id", _EXCEPTION),
    ("POST /v1/webhooks", 201, "webhook_id", "/id", _HOOK),
    (
        "GET /v1/provenance", 200, "digest", "/releases/0/digest",
        ("GET /v1/images/{digest}", "GET /v1/images/{digest}/provenance", "GET /v1/images/{digest}/record",
         "GET /v1/images/{digest}/sbom", "GET /v1/images/{digest}/attestations", "POST /v1/images/{digest}/rebuilds"),
    ),
    ("GET /v1/recipes", 200, "name", "/recipes/0/name", ("GET /v1/recipes/{name}", "GET /v1/recipes/{name}/lock")),
)  # fmt: skip
