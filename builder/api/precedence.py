"""Whose builds may go before those of others."""

from __future__ import annotations

from fastapi import Request

from builder.api.identified import identified
from builder.errors import Rejected
from builder.settings import Settings
from builder.store.scopes import Scope
from builder.store.states import Priority


class PriorityNotAllowed(Rejected):
    slug = "priority-not-allowed"
    title = "The caller may not ask for that priority"
    status = 403


def refuse_precedence(request: Request, caller: str, priority: Priority) -> None:
    """Raises PriorityNotAllowed: if everybody could ask for `high`, everybody would."""
    if priority is not Priority.HIGH:
        return
    settings: Settings = request.app.state.settings
    if caller in settings.high_priority_callers or identified(request).allows((Scope.ADMIN,)):
        return
    raise PriorityNotAllowed(
        f"priority: high is for administrators, and for callers that the operator names; {caller} is neither",
        hint="ask for normal, or ask the operator: GOLDSMITH_HIGH_PRIORITY_CALLERS",
    )
