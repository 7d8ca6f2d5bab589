"""Lines of text, as Envoy's ``text_format``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from meshlib.compiler.access_log.format import Parts
from meshlib.telemetry.access_log.escaping import escaped, is_plain, readable
from meshlib.telemetry.access_log.operators import NOBODY, Node, Reader, Value, reader

if TYPE_CHECKING:
    from meshlib.telemetry.access_log.entry import Entry

MISSING = "-"


def text_of(
    parts: Parts, now: Callable[[], float], omit_empty: bool = False, node: Node = NOBODY
) -> Callable[[Entry], str]:
    """From an entry to its line, which ends where the format says. ``omit_empty``: what is not there is "" and not ``-``.
    ``now`` and ``node`` are as ``reader``'s."""
    template = "".join(part.replace("%", "%%") if isinstance(part, str) else "%s" for part in parts)
    readers = [reader(part, now, node) for part in parts if not isinstance(part, str)]
    missing = "" if omit_empty else MISSING
    reads = tuple(each.read for each in readers)
    theirs = tuple(n for n, each in enumerate(readers) if each.theirs)

    def line(entry: Entry) -> str:
        values: list[Value] = [missing if (value := read(entry)) is None else value for read in reads]
        try:
            plain = is_plain("".join([values[n] for n in theirs]))  # type: ignore[misc]  # numbers raise, and are seldom there
        except TypeError:
            plain = False
        if not plain:
            for n in theirs:
                values[n] = safe(values[n])
        return template % tuple(values)

    return line


def safe(value: Value) -> str:
    """A value that is there, as it stands in a line."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return escaped(json.dumps(value)) if isinstance(value, (Mapping, list)) else str(value)


def joined(readers: tuple[str | Reader, ...], missing: str) -> Callable[[Entry], str]:
    """Of a format with several parts in JSON: one text, as it was read, without escapes of its own."""

    def text(entry: Entry) -> str:
        found = []
        for part in readers:
            if isinstance(part, str):
                found.append(part)
                continue
            value = part.read(entry)
            if isinstance(value, str):
                found.append(readable(value))
            else:
                found.append(missing if value is None else json.dumps(value))
        return "".join(found)

    return text
