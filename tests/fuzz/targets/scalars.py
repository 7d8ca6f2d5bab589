"""Durations, percentages, ports, hosts and their like: a value or pydantic's refusal, and what Go would have read."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from pydantic import TypeAdapter, ValidationError

from meshlib.policy.retry import parse_retry_on
from meshlib.resources import types
from meshlib.resources.yaml_scalars import BadNumberError, plain_scalar
from tests.fuzz.raw_input import RawInput

READERS = [
    TypeAdapter(kind)
    for kind in (types.Duration, types.AnyDuration, types.Port, types.PercentInt, types.Count, types.IntOrString,
                 types.Host, types.DestinationHost, types.DnsLabel, types.Percent, types.StringMatch, types.PortSelector)
]  # fmt: skip
NANOSECONDS = {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
GO = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|\u00b5s|ms|s|m|h)", re.ASCII)


def run(data: bytes) -> None:
    raw = RawInput(data)
    reader = raw.pick(READERS)
    value: Any = raw.rest().decode("utf-8", "surrogateescape") if raw.flag() else scalar(raw)
    if raw.left and reader in READERS[-3:]:
        value = {"value": value, "regex": value, "number": value}
    try:
        found = reader.validate_python(value)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            assert each["msg"]
    else:
        if reader in READERS[:2]:
            assert isinstance(value, str)
            assert abs(Fraction(found) - go_seconds(value.strip())) <= Fraction(abs(found)) / 10**12
    if isinstance(value, str):
        try:
            parse_retry_on(value)
        except ValueError as error:
            assert "retry condition" in str(error)


def scalar(raw: RawInput) -> Any:
    """What the YAML reader would hand over."""
    text = raw.rest().decode("utf-8", "replace")
    try:
        return plain_scalar(text)
    except BadNumberError:
        return text


def go_seconds(text: str) -> Fraction:
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-").removeprefix("+")
    if text == "0":
        return Fraction(0)
    total, at = Fraction(0), 0
    while at < len(text):
        part = GO.match(text, at)
        assert part is not None
        assert part[1] or part[2]
        total += Fraction(int(part[1] or "0") * NANOSECONDS[part[3]])
        if part[2]:
            total += Fraction(int(part[2]) * NANOSECONDS[part[3]], 10 ** len(part[2]))
        at = part.end()
    return sign * total / 10**9
