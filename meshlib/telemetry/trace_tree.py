"""Traces as text: a tree a trace, one line a span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

SHOWN = {"meshlib.route": "route", "meshlib.subset": "subset", "meshlib.flags": "flags", "error.type": "error"}


class SpanFacts(NamedTuple):
    """A span. Ids are in hexadecimal, ``parent_id`` "" of a root; times are nanoseconds; ``failed``: its status is an error."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    service: str
    start: int
    end: int
    attributes: Mapping[str, object]
    events: Sequence[tuple[str, Mapping[str, object]]] = ()
    failed: bool = False


def render(spans: Iterable[SpanFacts]) -> str:
    """The traces in the order in which they began. A span whose parent is not among them is a root."""
    by_trace: dict[str, list[SpanFacts]] = {}
    for span in sorted(spans, key=lambda each: each.start):
        by_trace.setdefault(span.trace_id, []).append(span)
    lines: list[str] = []
    for trace_id, found in by_trace.items():
        known = {span.span_id for span in found}
        below: dict[str, list[SpanFacts]] = {}
        for span in found:
            below.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
        lines.append(f"trace {trace_id}")
        began = found[0].start
        for root in below.get("", ()):
            _draw(root, below, began, "", "", lines)
    return "\n".join(lines) + ("\n" if lines else "")


def _draw(
    span: SpanFacts, below: Mapping[str, Sequence[SpanFacts]], began: int, first: str, rest: str, lines: list[str]
) -> None:
    lines.append(f"{first}{_line(span, began)}")
    children = below.get(span.span_id, ())
    for name, told in span.events:
        shown = " ".join(f"{key.removeprefix('meshlib.')}={_text(value)}" for key, value in told.items())
        lines.append(f"{rest}{'|' if children else ' '}    * {name.removeprefix('meshlib.')} {shown}".rstrip())
    for at, child in enumerate(children):
        last = at == len(children) - 1
        _draw(child, below, began, f"{rest}{'`-- ' if last else '|-- '}", f"{rest}{'    ' if last else '|   '}", lines)


def _line(span: SpanFacts, began: int) -> str:
    told = span.attributes
    status = told.get("rpc.response.status_code", told.get("http.response.status_code", ""))
    facts = [
        _text(span.service),
        span.kind.lower(),
        _text(span.name),
        f"{_text(told['meshlib.attempt'])} -> {_text(told.get('meshlib.endpoint', ''))}"
        if "meshlib.attempt" in told
        else "",
        _text(status),
        *(f"{word}={_text(told[key])}" for key, word in SHOWN.items() if told.get(key) not in (None, "")),
        "FAILED" if span.failed else "",
        f"+{(span.start - began) / 1e6:.1f} ms, {(span.end - span.start) / 1e6:.1f} ms",
    ]
    return " ".join(fact for fact in facts if fact)


def _text(value: object) -> str:
    """A value on one line."""
    return "".join(each if each.isprintable() else "?" for each in str(value))
