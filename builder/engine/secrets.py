"""Values that a step may read and nobody may keep: taken out of what is said, and looked for in what becomes an image.

Both know the value as it is, in base64 (at each of its three places in a longer text), in hexadecimal and
percent-encoded. A step that wants to give a value away finds other ways; these are against accidents.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping
from urllib.parse import quote, quote_plus

from builder.errors import Rejected

# A shorter value is found everywhere, and guessed.
SHORTEST, LONGEST = 8, 64 * 1024
_REDACTED = "[secret]"
_BASE64_LINE = 76


class SecretInImage(Rejected):
    slug = "secret-in-image"
    title = "A secret of the build is in the image"


class BuildSecrets:
    """Values by their names. Each is between 8 bytes and 64 KiB long, a newline at its end aside."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = dict(values)
        self._encoded = {name: _forms(value.strip()) for name, value in values.items()}
        # A text is shown line by line, so a part that fills a line counts as the whole.
        lines = {line.strip() for value in values.values() for line in value.splitlines()}
        shown = {form for forms in self._encoded.values() for form in forms}
        shown |= {line for line in lines if len(line) >= SHORTEST}
        shown |= {part for form in shown for part in _base64_lines(form)}
        # The longest first: what is left of one that holds another would show the rest of it.
        self._shown = sorted((form.decode("utf-8", "replace") for form in shown), key=len, reverse=True)

    def __repr__(self) -> str:
        return f"BuildSecrets({', '.join(self._values)})"

    def named(self, names: Collection[str]) -> dict[str, bytes]:
        """Raises KeyError for a name without a value."""
        return {name: self._values[name] for name in names}

    def redacted(self, text: str) -> str:
        for form in self._shown:
            text = text.replace(form, _REDACTED)
        return text

    def refused_in(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks of an image as they come. Raises SecretInImage at the first that holds a value."""
        overlap = max((len(form) for forms in self._encoded.values() for form in forms), default=1) - 1
        before = b""
        for chunk in chunks:
            window = before + chunk
            for name, forms in self._encoded.items():
                if any(form in window for form in forms):
                    raise SecretInImage(
                        f"spec.run: the value of the secret {name} is in a file, or a name, of the image",
                        hint="let the step use it without writing it down, or remove what it wrote in the same step",
                    )
            before = window[-overlap:] if overlap else b""
            yield chunk


def _forms(value: bytes) -> set[bytes]:
    forms = {value, value.hex().encode(), value.hex().upper().encode()}
    forms |= {quote(value, safe=safe).encode() for safe in ("", "/")} | {quote_plus(value).encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # Characters at the edges hold bits of what stands beside the value.
            first, last = (0, 2, 3)[before], (before + len(value)) % 3
            text = encode(bytes(before) + value).rstrip(b"=")
            forms.add(text[first : len(text) - 1 if last else len(text)])
    return {form for form in forms if len(form) >= SHORTEST}


def _base64_lines(form: bytes) -> set[bytes]:
    """What base64(1) makes of a long text: lines of 76."""
    lines = {form[start : start + _BASE64_LINE] for start in range(0, len(form), _BASE64_LINE)}
    return {line for line in lines if len(line) >= SHORTEST} if len(form) > _BASE64_LINE else set()
