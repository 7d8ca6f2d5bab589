"""The scalar types that Istio's fields are made of, with messages a person can act on.

Errors are pydantic's own or ``PydanticCustomError`` with a stable code and the remedy as ``hint`` in its context.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeGuard

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from meshlib.resources.base import Model
from meshlib.resources.validation.hosts import domain_problem, is_dns_label, wildcard_domain_problem


def refuse(code: str, message: str, hint: str = "", **context: object) -> PydanticCustomError:
    """A validation error with a stable code and a hint. Braces in ``message`` are filled from ``context``."""
    return PydanticCustomError(code, message, {"hint": hint, **context})


# -- durations --------------------------------------------------------------------------------------------------------

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]+)?(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONGEST = 9_000_000_000 * 10**9
"""Nanoseconds. Go's durations end at 292 years, and so do Python's locks and sleeps."""


def _short(value: object) -> str:
    """For a message: a text that may be of any length."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def parse_duration(value: object) -> float:
    """Seconds of ``"1.5s"``, ``"2m"``, ``"1h30m"``, ``"100ms"``: Go's and protobuf's spelling."""
    return _nanoseconds(value) / 1e9


def _nanoseconds(value: object) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise refuse(
            "bad-duration", "durations need a unit, found the number {value}", f'write it as "{value}s"', value=value
        )
    if not isinstance(value, str):
        raise refuse("bad-duration", "a duration is a text such as 5s", 'for example "1.5s", "100ms", "1h30m"')
    body = value[1:] if value[:1] in ("-", "+") else value
    total = at = 0
    while at < len(body) and body != "0":
        part = _PART.match(body, at)
        if part is None or not (part[1] or part[2]):
            break
        unit = _NANOSECONDS[part[3]]
        whole = (part[1] or "").lstrip("0")
        total += int(whole or 0) * unit if len(whole) < 20 else _LONGEST + 1
        if part[2]:
            total += int(part[2][:18].ljust(18, "0")) * unit // 10**18
        at = part.end()
        if total > _LONGEST:
            raise refuse("bad-duration", "{value} is longer than 285 years", "for example 24h", value=_short(value))
    if body != "0" and (at < len(body) or not body):
        raise refuse(
            "bad-duration", "{value} is not a duration", 'for example "1.5s", "100ms", "1h30m"', value=_short(value)
        )
    return -total if value.startswith("-") else total


def _positive_duration(value: object) -> float:
    nanoseconds = _nanoseconds(value)
    if nanoseconds < 10**6:
        raise refuse(
            "duration-too-short",
            "{value} is shorter than 1ms",
            "leave the field out to turn it off; Istio refuses 0s here",
            value=repr(value),
        )
    if nanoseconds % 10**6:
        raise refuse(
            "duration-precision",
            "{value} is not a whole number of milliseconds",
            "for example 1500ms",
            value=repr(value),
        )
    return nanoseconds / 1e9


def _positive_duration_or_off(value: object) -> float:
    nanoseconds = _nanoseconds(value)
    return 0.0 if -(10**6) < nanoseconds < 10**6 else _positive_duration(value)


Duration = Annotated[float, BeforeValidator(_positive_duration)]
"""Seconds, at least 1 ms, whole milliseconds."""

DurationOrOff = Annotated[float, BeforeValidator(_positive_duration_or_off)]
"""The same, or less than 1 ms: off."""

AnyDuration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds, zero and less allowed (cookie ttl: a session cookie)."""


# -- enums ------------------------------------------------------------------------------------------------------------


def names(*allowed: str) -> BeforeValidator:
    """A protobuf enum: by name, or by number as protobuf's JSON allows (and the API server does not)."""

    return BeforeValidator(lambda value: one_of(value, *allowed))


def one_of(value: object, *allowed: str) -> str:
    """The name of a value of a protobuf enum. Raises ``bad-enum``, or ``crd-enum`` for a number that is none."""
    if isinstance(value, int) and not isinstance(value, bool) and -(1 << 31) <= value < 1 << 31:
        if 0 <= value < len(allowed):
            return allowed[value]
        # istiod's decoder takes every number for an enum; the API server, which wants a name, does not
        raise refuse(
            "crd-enum", "{value} is not one of {allowed}", "write its name", value=value, allowed=", ".join(allowed)
        )
    if not isinstance(value, str) or value not in allowed:
        raise refuse("bad-enum", "{value} is not one of {allowed}", "", value=repr(value), allowed=", ".join(allowed))
    return value


# -- numbers and names ------------------------------------------------------------------------------------------------


def _int_or_string(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise refuse("wrong-type", "a number or a name is expected", "")
    return value


IntOrString = Annotated[int | str, BeforeValidator(_int_or_string)]

_JSON_NUMBER = re.compile(r"[ \t\r\n]*(?:-?(?:0|[1-9][0-9]{0,18})|null)[ \t\r\n]*", re.ASCII)


def is_quoted_number(value: object) -> TypeGuard[str]:
    """A text that protobuf's JSON reads as a whole number; the API server does not."""
    return isinstance(value, str) and _JSON_NUMBER.fullmatch(value) is not None


def _unquoted(value: object) -> str:
    return (
        f"write it without quotes: {value.strip()}"
        if isinstance(value, str) and is_quoted_number(value)
        else "for example 1"
    )


def wrong_number(value: object) -> str:
    """The code of an error about what should be a number: one in quotes is read by istiod, and refused by the API server."""
    return "crd-type" if is_quoted_number(value) else "wrong-type"


def whole_number(low: int, high: int) -> BeforeValidator:
    """A whole number ``low..high``."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise refuse(
                wrong_number(value), "a whole number is expected, found {value}", _unquoted(value), value=_short(value)
            )
        if value < 0 <= low:
            raise refuse("negative", "{value} is negative", "a number from {low} on", value=value, low=low)
        if not low <= value <= high:
            raise refuse(
                "out-of-range",
                "{value} is outside {low}..{high}",
                "a number {low}..{high}",
                value=value,
                low=low,
                high=high,
            )
        return value

    return BeforeValidator(read)


Int32 = Annotated[int, whole_number(-(1 << 31), (1 << 31) - 1)]
UInt32 = Annotated[int, whole_number(0, (1 << 32) - 1)]
UInt64 = Annotated[int, whole_number(0, (1 << 64) - 1)]
Count = Annotated[int, whole_number(0, (1 << 31) - 1)]
"""An int32 that may not be negative."""
Positive = Annotated[int, whole_number(1, (1 << 31) - 1)]
"""An int32 of which 0 says nothing, and is refused."""


def _port(value: object) -> int:
    if is_quoted_number(value) and value.strip() != "null":
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse("bad-port", "a port is a number, found {value}", "a number 1..65535", value=_short(value))
    if not 1 <= value <= 65535:
        raise refuse("bad-port", "port {value} is outside 1..65535", "a number 1..65535", value=value)
    return value


Port = Annotated[int, BeforeValidator(_port)]


def _optional_port(value: object) -> int | None:
    if is_quoted_number(value):
        value = None if value.strip() == "null" else int(value)
    return None if value is None or (type(value) is int and value == 0) else _port(value)


OptionalPort = Annotated[int | None, BeforeValidator(_optional_port)]
"""A port; 0 is the same as none."""


def _percent_int(value: object) -> int:
    if is_quoted_number(value):
        raise refuse("crd-type", "a whole percentage is expected, found {value}", _unquoted(value), value=_short(value))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise refuse(
            "bad-percent",
            "a whole percentage 0..100 is expected, found {value}",
            "a number 0..100",
            value=_short(value),
        )
    return value


PercentInt = Annotated[int, BeforeValidator(_percent_int)]


def _dns_label(value: object) -> str:
    if not isinstance(value, str) or not is_dns_label(value):
        raise refuse(
            "bad-name", "{value} is not a DNS label", "letters, digits and dashes, at most 63", value=_short(value)
        )
    return value


DnsLabel = Annotated[str, BeforeValidator(_dns_label)]
OptionalDnsLabel = Annotated[str, BeforeValidator(lambda value: value if value == "" else _dns_label(value))]
"""The same; "" is the same as none."""


def check_host(host: object, *, wildcard: bool = True) -> str:
    """A host name, with ``wildcard`` one that may begin with a wildcard; raises ``bad-host``, or ``missing-host`` when it is
    empty."""
    if not isinstance(host, str):
        raise refuse("wrong-type", "a host name is expected, found {value}", "for example reviews", value=_short(host))
    if not host:
        raise refuse(
            "missing-host", "the host is empty", "name a service, e.g. reviews or reviews.prod.svc.cluster.local"
        )
    problem = wildcard_domain_problem(host) if wildcard else domain_problem(host)
    if problem:
        raise refuse(
            "bad-host",
            "{host} is not a host name: {problem}",
            "for example reviews or api.example.com",
            host=_short(host),
            problem=problem,
        )
    return host


def _destination_host(host: object) -> str:
    if host == "*":
        raise refuse("bad-host", "{host} is not a host to send to", "name a service", host=repr(host))
    return check_host(host)


Host = Annotated[str, BeforeValidator(check_host)]
DestinationHost = Annotated[str, BeforeValidator(_destination_host)]
"""A host to send to. (Istio allows a wildcard here, which no service has: such calls find no cluster.)"""


# -- matches, shares and ports ------------------------------------------------------------------------------------------


class StringMatch(Model):
    """One of ``exact``, ``prefix``, ``regex`` (RE2, whole string); none of them: is present."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class Percent(Model):
    """``value`` 0..100, four decimals count."""

    value: float | None = None


class PortSelector(Model):
    """A service port by ``number``."""

    number: Port | None = None
    name: str | None = None  # removed from Istio long ago; old resources still have it


class DestinationPort(Model):
    """``port`` of a destination: its ``number`` has to be given."""

    number: Port
    name: str | None = None  # removed from Istio long ago; old resources still have it
