"""Lines of JSON, as Envoy's ``json_format``: numbers are numbers, what is not there is null (or left out)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from meshlib.compiler.access_log.format import Constant, Operator, Parts, Shape, parse_json
from meshlib.telemetry.access_log.escaping import as_json
from meshlib.telemetry.access_log.operators import NOBODY, Node, Reader, Value, reader
from meshlib.telemetry.access_log.text import MISSING, joined

if TYPE_CHECKING:
    from meshlib.telemetry.access_log.entry import Entry

Write = Callable[["Entry"], str | None]
"""A value in JSON; None: it is left out."""
Read = Callable[[Operator], Reader]
"""How operators are read."""


def json_of(
    form: Mapping[str, Shape], now: Callable[[], float], omit_empty: bool = False, node: Node = NOBODY
) -> Callable[[Entry], str]:
    """From an entry to its line. ``omit_empty``: keys whose value is not there are left out. ``now`` and ``node`` are as
    ``reader``'s."""
    of = partial(reader, now=now, node=node)
    if omit_empty:
        shape = _object(form, of, True)
        return lambda entry: f"{shape(entry)}\n"
    pieces: list[str | Write] = []
    _flat(form, of, pieces)
    template, writes = "", []
    for piece in (*pieces, "\n"):
        if isinstance(piece, str):
            template += piece.replace("%", "%%")
        else:
            template += "%s"
            writes.append(piece)
    return lambda entry: template % tuple([write(entry) for write in writes])


def _flat(shape: Shape, of: Read, pieces: list[str | Write]) -> None:
    """Objects and lists whose keys are all there, in a row: nothing of them is left to be done for a line."""
    if isinstance(shape, Mapping):
        for n, (key, value) in enumerate(shape.items()):
            pieces.append(f"{'{' if n == 0 else ','}{json.dumps(key)}:")
            _flat(value, of, pieces)
        pieces.append("}" if shape else "{}")
    elif isinstance(shape, list):
        for n, value in enumerate(shape):
            pieces.append("[" if n == 0 else ",")
            _flat(value, of, pieces)
        pieces.append("]" if shape else "[]")
    else:
        pieces.append(_value(shape, of, False))


def _any(shape: Shape, of: Read, omit: bool) -> Write:
    if isinstance(shape, Mapping):
        return _object(shape, of, omit)
    if isinstance(shape, list):
        values = [_any(value, of, omit) for value in shape]
        return lambda entry: f"[{','.join([found for write in values if (found := write(entry)) is not None])}]"
    return _value(shape, of, omit)


def _object(form: Mapping[str, Shape], of: Read, omit: bool) -> Write:
    keys = [(json.dumps(key), _any(value, of, omit)) for key, value in form.items()]

    def write(entry: Entry) -> str:
        return f"{{{','.join([f'{key}:{found}' for key, value in keys if (found := value(entry)) is not None])}}}"

    return write


def _value(shape: Parts | Constant, of: Read, omit: bool) -> Write:
    if isinstance(shape, Constant):
        constant = json.dumps(shape.value)
        return lambda _entry: constant
    if len(shape) == 1 and isinstance(shape[0], Operator):
        read = of(shape[0]).read
        missing = None if omit else "null"

        def write(entry: Entry) -> str | None:
            value = read(entry)
            if type(value) is str:
                return as_json(value)
            return missing if value is None else str(value) if type(value) is int else _structure(value)

        return write
    parts = tuple(part if isinstance(part, str) else of(part) for part in shape)
    text = joined(parts, "" if omit else MISSING)
    return lambda entry: json.dumps(text(entry))


def _structure(value: Value) -> str:
    return json.dumps(value)


def attributes_of(
    form: Mapping[str, object], now: Callable[[], float], node: Node = NOBODY
) -> tuple[tuple[str, Callable[[Entry], str]], ...]:
    """Of a record of OpenTelemetry: each key of a JSON format and the text of its value; what is nested is JSON."""
    of = partial(reader, now=now, node=node)
    made: list[tuple[str, Callable[[Entry], str]]] = []
    for key, shape in parse_json(form).items():
        if isinstance(shape, tuple) and not isinstance(shape, Constant):
            made.append((key, joined(tuple(p if isinstance(p, str) else of(p) for p in shape), MISSING)))
        else:
            write = _any(shape, of, False)
            made.append((key, lambda entry, write=write: write(entry) or ""))  # type: ignore[misc]
    return tuple(made)
