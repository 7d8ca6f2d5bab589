"""The answers of Envoy, beside the cases: read and written. One line of JSON a case, compressed."""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

from tests.proxy.malformed.asking import Result
from tests.proxy.malformed.case import Case, Side
from tests.proxy.malformed.upstream import Message


def file_of(side: Side) -> Path:
    """Where its answers are kept."""
    return Path(__file__).with_name(f"envoy-{side}.jsonl.xz")


def digest(case: Case) -> str:
    """Of what is sent: an answer is that of these bytes alone."""
    return hashlib.sha256(repr(tuple(case)[1:]).encode()).hexdigest()[:12]


def write(side: Side, cases: tuple[Case, ...], answers: dict[str, Result], of: str) -> None:
    """``of``: the version of Envoy."""
    lines = [json.dumps({"envoy": of})]
    for case in cases:
        if case.id in answers:
            lines.append(json.dumps([case.id, digest(case), *_to_json(answers[case.id])], separators=(",", ":")))
    file_of(side).write_bytes(lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))


@functools.cache
def recorded(side: Side = "outbound") -> tuple[str, dict[str, tuple[str, Result]]]:
    """The version of Envoy, and for each id the digest of its case and the answer."""
    first, *lines = lzma.decompress(file_of(side).read_bytes()).decode().split("\n")
    found = {}
    for line in lines:
        name, of, *result = json.loads(line)
        found[name] = (of, _from_json(result))
    return json.loads(first)["envoy"], found


def _to_json(result: Result) -> list[Any]:
    return [
        result.statuses,
        result.end,
        [[_text(part) for part in message] for message in result.upstream],
        [_text(each) for each in result.garbage],
        int(result.in_step),
    ]


def _text(part: Any) -> Any:
    """Bytes as latin-1; what is long and one byte many times, as that."""
    if isinstance(part, tuple):
        return [[_text(name), _text(value)] for name, value in part]
    if isinstance(part, str):
        return part
    if len(part) > 200:
        return {"sha": hashlib.sha256(part).hexdigest()[:16], "size": len(part)}
    return part.decode("latin-1")


def _from_json(line: list[Any]) -> Result:
    statuses, end, upstream, garbage, in_step = line
    messages = tuple(Message(*(_part(at, part) for at, part in enumerate(message))) for message in upstream)
    return Result(tuple(statuses), end, messages, tuple(map(_bytes, garbage)), bool(in_step))


def _part(at: int, part: Any) -> Any:
    if Message._fields[at] == "framing":
        return part
    if isinstance(part, list):
        return tuple((_bytes(name), _bytes(value)) for name, value in part)
    return _bytes(part)


def _bytes(part: Any) -> Any:
    return part.encode("latin-1") if isinstance(part, str) else b"sha256:%b:%d" % (part["sha"].encode(), part["size"])


def as_recorded(result: Result) -> Result:
    """As it reads once it has been written: what is long is its digest."""
    return _from_json(json.loads(json.dumps(_to_json(result))))
