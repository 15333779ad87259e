"""Every way that we know to alter the evidence of a released image, each with what must refuse it.

`Forger` is who alters: he holds the archive, may sign as a stranger of the same Sigstore, by a Sigstore of his own,
and, as an insider, as the service itself.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from builder.signing.signer import Signer
from builder.signing.statement import Statement

Json = dict[str, Any]
# What is refused before anything is checked.
WHOLE = "the archive"


@dataclass(frozen=True)
class Forger:
    """`members` of the archive are altered in place."""

    members: dict[str, bytes]
    service: Signer
    stranger: Signer
    foreign: Signer

    def bundle(self, name: str = "provenance") -> Json:
        found: Json = json.loads(self.members[f"bundles/{name}.json"])
        return found

    def put(self, bundle: Json, name: str = "provenance") -> None:
        self.members[f"bundles/{name}.json"] = json.dumps(bundle).encode()

    def statement(self, name: str = "provenance") -> Json:
        found: Json = json.loads(base64.b64decode(self.bundle(name)["dsseEnvelope"]["payload"]))
        return found

    def sign(self, statement: Json, name: str = "provenance", by: Signer | None = None) -> None:
        signed = (by or self.service).sign(Statement.model_validate(statement))
        self.members[f"bundles/{name}.json"] = signed.bundle


Alter = Callable[[Forger], None]
TABLE: dict[str, tuple[Alter, str, str]] = {}


def refused(check: str, why: str) -> Callable[[Alter], Alter]:
    """The check that must fail, and a part of what it must say."""

    def add(alter: Alter) -> Alter:
        TABLE[alter.__name__.removeprefix("_").replace("_", " ")] = (alter, check, why)
        return alter

    return add


def flipped(text: str, at: int = -1) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[at] ^= 1
    return base64.b64encode(raw).decode()
