"""``customTags`` of Telemetry and MeshConfig: attributes of every span, known beforehand, read from the request,
or told when the call is over."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.clock import SystemClock
from meshlib.policy.secret_queries import header_shown
from meshlib.problems import MeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from meshlib.policy.telemetry_settings import CustomTag
    from meshlib.policy.trace_context import Lookup
    from meshlib.telemetry.access_log.entry import Entry

    Node = Mapping[str, object]

log = logging.getLogger("meshlib.telemetry")
NOBODY: Node = {}
PSEUDO = frozenset((":path", ":method", ":authority", ":scheme"))
"""What Envoy has among the headers of a request, and a request of HTTP/1.1 has not; read as access logs read them."""
LONGEST = 1024
"""Characters of a header that become an attribute."""


def expressions_of(tags: Sequence[CustomTag]) -> list[str]:
    """The expressions in CEL of those that are formats."""
    from meshlib.compiler.access_log.format import FormatError, expressions_in, parse

    found: list[str] = []
    for tag in tags:
        if tag.kind == "formatter":
            with contextlib.suppress(FormatError):  # said when it was loaded, at its line
                found += expressions_in(parse(tag.value))
    return found


class CustomTags:
    """``always`` are those that no request changes: literals, and variables of the environment as they are when the settings
    come into force. ``by_header`` are names, headers and defaults of others; ``formatted`` names and formats of those that are
    told when a call is over."""

    __slots__ = ("_node", "always", "by_header", "formatted")

    def __init__(self, tags: tuple[CustomTag, ...], node: Node = NOBODY) -> None:
        """``node`` is what expressions in formats read of the workload."""
        self._node = node
        self.always: dict[str, str] = {}
        self.by_header: list[tuple[str, str, str]] = []
        self.formatted: list[tuple[str, Callable[[Entry], str]]] = []
        for tag in tags:
            if tag.kind == "header" and tag.value.lower() in PSEUDO:
                self._add_format(replace(tag, kind="formatter", value=f"%REQ({tag.value.upper()})%"))
                continue
            if tag.kind == "header":
                self.by_header.append((tag.name, tag.value.lower(), tag.default))
                continue
            if tag.kind == "formatter":
                self._add_format(tag)
                continue
            value = tag.value if tag.kind == "literal" else os.environ.get(tag.value, "")
            if value or tag.default:
                self.always[tag.name] = value or tag.default

    def _add_format(self, tag: CustomTag) -> None:
        from meshlib.compiler.access_log.format import FormatError, parse
        from meshlib.telemetry.access_log.operators import reader
        from meshlib.telemetry.access_log.text import joined

        try:
            parts = parse(tag.value)
        except FormatError:  # said when it was loaded, at its line
            return
        try:
            now = SystemClock().time
            read = [part if isinstance(part, str) else reader(part, now, self._node) for part in parts]
        except MeshError as error:
            log.error("%s: the tag %s is left out: %s", tag.where or "customTags", tag.name, error)
            return
        self.formatted.append((tag.name, joined(tuple(read), "")))  # an attribute is no line: nothing to be escaped

    def ended(self, entry: Entry) -> dict[str, str]:
        """Those that are formats of the access log, of a call that is over."""
        found = ((name, text(entry)[:LONGEST]) for name, text in self.formatted)
        return {name: value for name, value in found if value}

    def of(self, header: Lookup) -> dict[str, str]:
        """Those of a request. Of a header that opens doors (Authorization, say) it is told that it is there, of one that has
        a URL not the secrets of its query."""
        found: dict[str, str] = {}
        for name, key, default in self.by_header:
            value = header(key) or ""
            if value:
                value = _characters(header_shown(key, value))[:LONGEST]
            if value or default:
                found[name] = value or default
        return found


def _characters(wire: str) -> str:
    if wire.isascii():
        return wire
    from meshlib.telemetry.access_log.escaping import readable  # of access logs nothing is loaded without need

    return readable(wire)
