"""The scalar types that Istio's fields are made of, with messages a person can act on.

Errors are pydantic's own or ``PydanticCustomError`` with a stable code and the remedy as ``hint`` in its context.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, field_validator, model_validator
from pydantic_core import PydanticCustomError

from meshlib.policy.unsigned import unsigned
from meshlib.resources.base import Model


def refuse(code: str, message: str, hint: str = "", **context: Any) -> PydanticCustomError:
    """A validation error with a stable code and a hint. Braces in ``message`` are filled from ``context``."""
    return PydanticCustomError(code, message, {"hint": hint, **context})


# -- durations --------------------------------------------------------------------------------------------------------

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_LONGEST = 9_000_000_000.0
"""Seconds. Go's durations end at 292 years, and so do Python's locks and sleeps."""


def _short(value: object) -> str:
    """For a message: a text that may be of any length."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def parse_duration(value: Any) -> float:
    """Seconds of ``"1.5s"``, ``"2m"``, ``"1h30m"``, ``"100ms"``: Go's and protobuf's spelling."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise refuse(
            "bad-duration", "durations need a unit, found the number {value}", f'write it as "{value}s"', value=value
        )
    if not isinstance(value, str):
        raise refuse("bad-duration", "a duration is a text such as 5s", 'for example "1.5s", "100ms", "1h30m"')
    text = value.strip()
    negative = text.startswith("-")
    body = text.removeprefix("-").removeprefix("+")
    parts = _PART.findall(body)
    if body == "0":
        parts = [("0", "s")]
    elif not parts or "".join(number + unit for number, unit in parts) != body:
        raise refuse(
            "bad-duration", "{value} is not a duration", 'for example "1.5s", "100ms", "1h30m"', value=repr(value)
        )
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise refuse("bad-duration", "{value} is longer than 285 years", "", value=_short(value))
    return -seconds if negative else seconds


def _positive_duration(value: Any) -> float:
    seconds = parse_duration(value)
    if seconds < 0.001:
        raise refuse(
            "duration-too-short",
            "{value} is shorter than 1ms",
            "leave the field out to turn it off; Istio refuses 0s here",
            value=repr(value),
        )
    if abs(seconds * 1000 - round(seconds * 1000)) > 1e-6:
        raise refuse("duration-precision", "{value} is not a whole number of milliseconds", "", value=repr(value))
    return seconds


Duration = Annotated[float, BeforeValidator(_positive_duration)]
"""Seconds, at least 1 ms, whole milliseconds."""

AnyDuration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds, zero allowed (cookie ttl: a session cookie)."""


# -- enums ------------------------------------------------------------------------------------------------------------


def names(*allowed: str) -> BeforeValidator:
    """A protobuf enum: by name, or by number as protobuf's JSON allows."""

    def read(value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(allowed):
            return allowed[value]
        if value not in allowed:
            # istiod's decoder takes every number for an enum; the API server, which wants a name, does not
            code = "crd-enum" if type(value) is int and -(2**31) <= value < 2**31 else "bad-enum"
            raise refuse(code, "{value} is none of {allowed}", "", value=repr(value), allowed=", ".join(allowed))
        return value

    return BeforeValidator(read)


# -- numbers and names ------------------------------------------------------------------------------------------------


def _int_or_string(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise refuse("wrong-type", "a number or a name is expected", "")
    return value


IntOrString = Annotated[int | str, BeforeValidator(_int_or_string)]


def _port(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        number = unsigned(value)
        value = value if number is None else number
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse("bad-port", "a port is a number, found {value}", "a number 1..65535", value=_short(value))
    if not 1 <= value <= 65535:
        raise refuse("bad-port", "port {value} is outside 1..65535", "a number 1..65535", value=value)
    return value


Port = Annotated[int, BeforeValidator(_port)]


def _percent_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        code = "crd-type" if wrong_number(value) == "crd-type" else "bad-percent"
        raise refuse(code, "a whole percentage 0..100 is expected, found {value}", "", value=repr(value))
    return value


PercentInt = Annotated[int, BeforeValidator(_percent_int)]


_QUOTED = re.compile(r"-?(0|[1-9][0-9]*)")


def wrong_number(value: Any) -> str:
    """The code of an error about what should be a number: one in quotes is read by istiod, and refused by the API server."""
    return "crd-type" if isinstance(value, str) and _QUOTED.fullmatch(value) else "wrong-type"


def _non_negative(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(wrong_number(value), "a whole number is expected, found {value}", "", value=repr(value))
    if value < 0:
        raise refuse("negative", "{value} is negative", "", value=value)
    return value


Count = Annotated[int, BeforeValidator(_non_negative)]

_LARGEST_INT32 = 2**31 - 1


def _non_negative_int32(value: Any) -> int:
    count = _non_negative(value)
    if count > _LARGEST_INT32:
        raise refuse("too-large", "{value} is more than {most}", "", value=count, most=_LARGEST_INT32)
    return count


Count32 = Annotated[int, BeforeValidator(_non_negative_int32)]
"""A protobuf int32 that Istio does not want negative."""

_LABEL = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")


def is_dns_label(text: str) -> bool:
    """DNS-1123, either case."""
    return _LABEL.fullmatch(text) is not None


def _dns_label(value: Any) -> str:
    if not isinstance(value, str) or not is_dns_label(value):
        raise refuse(
            "bad-name", "{value} is not a DNS label", "letters, digits and dashes, at most 63", value=repr(value)
        )
    return value


DnsLabel = Annotated[str, BeforeValidator(_dns_label)]


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host_problem(host: str, *, wildcard: bool = True, ip: bool = True) -> str:
    """Why ``host`` is not a host name (FQDN, short name, ``*.suffix``, IP), "" when it is one."""
    if not host:
        return "it is empty"
    if len(host) > 255:
        return "it is longer than 255 characters"
    if is_ip(host):
        return "" if ip else "an IP address is not allowed here"
    rest = host
    if host.startswith("*"):
        if not wildcard:
            return "a wildcard is not allowed here"
        if host == "*":
            return ""
        if not host.startswith("*."):
            return 'a wildcard is "*" or starts with "*."'
        rest = host[2:]
    labels = rest.removesuffix(".").split(".")
    for label in labels:
        if not is_dns_label(label):
            return f"{label!r} is not a DNS label"
    if labels[-1].isdigit():
        return "its last label is only digits"
    return ""


def check_host(host: Any, **allowed: bool) -> str:
    """A host name; raises ``bad-host``, or ``missing-host`` when it is empty."""
    if not isinstance(host, str):
        raise refuse("wrong-type", "a host name is expected, found {value}", "", value=repr(host))
    if not host:
        raise refuse(
            "missing-host", "the host is empty", "name a service, e.g. reviews or reviews.prod.svc.cluster.local"
        )
    problem = host_problem(host, **allowed)
    if problem:
        raise refuse("bad-host", "{host} is not a host name: {problem}", "", host=repr(host), problem=problem)
    return host


Host = Annotated[str, BeforeValidator(check_host)]
DestinationHost = Annotated[str, BeforeValidator(lambda host: check_host(host, wildcard=False))]


# -- regular expressions ----------------------------------------------------------------------------------------------

MAX_REGEX = 1024


def check_regex(pattern: str) -> str:
    """An RE2 pattern; raises ``bad-regex``."""
    if not pattern:
        raise refuse("bad-regex", "the regular expression is empty", "")
    if len(pattern) > MAX_REGEX:
        raise refuse(
            "bad-regex", "the regular expression has more than 1024 characters", "split it into several matches"
        )
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise refuse(
            "bad-regex",
            "RE2 refuses the regular expression {pattern}: {reason}",
            "Istio's expressions are RE2: no look-around, no back-references",
            pattern=repr(pattern),
            reason=reason,
        ) from error
    return pattern


def checker(check: Callable[[Any], Any]) -> BeforeValidator:
    """``check`` as a pydantic validator."""
    return BeforeValidator(check)


class StringMatch(Model):
    """One of ``exact``, ``prefix``, ``regex`` (RE2, whole string); none of them: is present."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.exact is not None) + (self.prefix is not None) + (self.regex is not None) > 1:
            given = [n for n in ("exact", "prefix", "regex") if getattr(self, n) is not None]
            raise refuse(
                "crd-one-of",
                "only one of exact, prefix, regex may be given, found {given}",
                "keep one",
                given=" and ".join(given),
            )
        if self.regex is not None and self.regex != "*":
            check_regex(self.regex)
        return self


class Percent(Model):
    """``value`` 0..100, four decimals count."""

    value: float | None = None

    @field_validator("value")
    @classmethod
    def _range(cls, value: float | None) -> float | None:
        if value is not None and value != 0 and not 0.0001 <= value <= 100:
            raise refuse("bad-percent", "{value} is outside 0..100", "the smallest share is 0.0001", value=value)
        return value


class PortSelector(Model):
    """A service port by ``number``."""

    number: Port | None = None
    name: str | None = None  # removed from Istio long ago; old resources still have it
