"""How long parsers are tried."""

from __future__ import annotations

import hypothesis

# `scripts/fuzz` asks for it.
hypothesis.settings.register_profile("hours", max_examples=5_000)
