"""``customTags`` of Telemetry and MeshConfig: attributes of every span, known beforehand or read from the request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from meshlib.policy.secret_values import HIDDEN, is_secret

if TYPE_CHECKING:
    from meshlib.policy.telemetry_settings import CustomTag
    from meshlib.policy.trace_context import Lookup

LONGEST = 1024
"""Characters of a header that become an attribute."""


class CustomTags:
    """``always`` are those that no request changes: literals, and variables of the environment as they are when the settings
    come into force. ``by_header`` are names, headers and defaults of the others."""

    __slots__ = ("always", "by_header")

    def __init__(self, tags: tuple[CustomTag, ...]) -> None:
        self.always: dict[str, str] = {}
        self.by_header: list[tuple[str, str, str]] = []
        for tag in tags:
            if tag.kind == "header":
                self.by_header.append((tag.name, tag.value.lower(), tag.default))
                continue
            value = tag.value if tag.kind == "literal" else os.environ.get(tag.value, "")
            if tag.kind in ("literal", "environment") and (value or tag.default):
                self.always[tag.name] = value or tag.default

    def of(self, header: Lookup) -> dict[str, str]:
        """Those of a request. A header that opens doors (Authorization, say) is named, not shown."""
        found: dict[str, str] = {}
        for name, key, default in self.by_header:
            value = (header(key) or "")[:LONGEST]
            if value and is_secret(key):
                value = HIDDEN
            if value or default:
                found[name] = value or default
        return found
