"""Which form of a report a caller would rather have, by what its Accept header says (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from builder.forensics.forms import MEDIA_TYPES, Form


def wanted_form(accept: str) -> Form:
    """The form of the highest quality, the first of equals; JSON for whoever takes anything, or nothing of ours."""
    best, form = 0.0, Form.JSON
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = _quality(parameters)
        named = next((one for one, known in MEDIA_TYPES.items() if known == media_type), None)
        if media_type in ("*/*", "application/*"):
            named = Form.JSON
        elif media_type == "text/*":
            named = Form.MARKDOWN
        if named is not None and quality > best:
            best, form = quality, named
    return form


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter.removeprefix("q="))
            except ValueError:
                return 0.0
    return 1.0
