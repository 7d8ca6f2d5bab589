"""Reading a format: text with ``%OPERATORS%`` in it, as Envoy's ``text_format`` and each string of its ``json_format``."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from meshlib.compiler.access_log.operators import JWT, OPERATORS, TAKEN_POINTS, TIME_POINTS
from meshlib.policy.cel_attributes import unknown_attribute
from meshlib.policy.cel_syntax import cel_references

DEFAULT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)
"""Envoy's own."""

ISTIO = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
"""What MeshConfig's ``accessLogFormat`` is when it says nothing."""

ISTIO_LABELS: Mapping[str, str] = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""The same with ``accessLogEncoding: JSON``."""

EXPRESSIONS = frozenset(("CEL", "TYPED_CEL"))
"""Operators whose argument is an expression."""
_COMMAND = re.compile(r"%([A-Z0-9_]+)(?:\((.*?)\))?(?::([0-9]+))?%")
"""An argument ends where an operator can, as in Envoy: ``%CEL(request.url_path.contains('v1'))%`` is one."""
NEAREST = 3
"""Names of operators that a message about an unknown one has, at most."""
MOST_NESTED = 16
"""Objects and lists in each other, and operators in COALESCE."""


class FormatError(ValueError):
    """A format that is not one. ``at``: the character of the text that it is about; ``key``: where in a JSON format."""

    def __init__(self, message: str, at: int = 0, key: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.key = key


class Operator(NamedTuple):
    """``%NAME(argument):limit%``. ``argument`` is None where there are no parentheses, ``limit`` where nothing is cut.
    ``nested`` are those of a COALESCE."""

    name: str
    argument: str | None = None
    limit: int | None = None
    nested: tuple[Operator, ...] = ()

    def __str__(self) -> str:
        argument = "" if self.argument is None else f"({self.argument})"
        return f"%{self.name}{argument}{'' if self.limit is None else f':{self.limit}'}%"

    def unknown_here(self, side: str) -> str:
        """Why its value is always ``-`` for the ``client`` or ``server`` of a call; "" when it is not."""
        spec = OPERATORS[self.name]
        if self.name in ("DYNAMIC_METADATA", "METADATA") and spec.side == side:
            namespace = (self.argument or "").removeprefix("DYNAMIC:").partition(":")[0]
            return "" if namespace == JWT else f"only the metadata of verified tokens ({JWT}) are known here"
        if self.name in EXPRESSIONS:
            unknown, known = unknown_attribute(cel_references(self.argument or ""))
            return f"it reads {unknown}, which does not exist: {known}" if unknown else ""
        if self.name == "COMMON_DURATION":
            points = (self.argument or "").split(":")[:2]
            unknown = next((point for point in points if point not in TAKEN_POINTS), "")
            if unknown in TIME_POINTS:
                return f"nobody here takes the time of {unknown}, but of {', '.join(TAKEN_POINTS)}"
            return f"{unknown} is a point in time that filters of a proxy set" if unknown else ""
        if spec.side == "neither":
            return "only a proxy knows it"
        if spec.side not in ("both", side):
            return f"only the {spec.side} of a call knows it"
        return ""


class Constant(NamedTuple):
    """A number, a boolean or null of a JSON format."""

    value: float | bool | None


Part = str | Operator
Parts = tuple[Part, ...]
Shape = Parts | Constant | Mapping[str, "Shape"] | list["Shape"]
"""What a JSON format comes to: its strings are ``Parts``."""


def parse(text: str) -> Parts:
    """The literals and operators of a format, in their order. ``%%`` is a percent sign. Raises ``FormatError``."""
    parts: list[Part] = []
    literal, at = "", 0
    while at < len(text):
        percent = text.find("%", at)
        if percent < 0:
            literal += text[at:]
            break
        literal += text[at:percent]
        if text.startswith("%%", percent):
            literal += "%"
            at = percent + 2
            continue
        found = _COMMAND.match(text, percent)
        if found is None:
            raise FormatError(f"{_shown(text, percent)} is not an operator: {_why(text, percent)}", percent)
        if literal:
            parts.append(literal)
            literal = ""
        name, argument, limit = found.groups()
        parts.append(_checked(name, argument, None if limit is None else int(limit), percent, 0))
        at = found.end()
    if literal:
        parts.append(literal)
    return tuple(parts)


def parse_json(form: Mapping[str, object]) -> Mapping[str, Shape]:
    """The same of a JSON format: an object whose strings are formats; objects and lists may be nested. Raises ``FormatError``
    whose ``key`` says where."""
    return {key: _shape(value, key, 1) for key, value in form.items()}


def operators_in(shape: Shape) -> list[Operator]:
    """All operators of a format, whichever form it has."""
    if isinstance(shape, Constant):
        return []
    if isinstance(shape, Mapping):
        return [found for value in shape.values() for found in operators_in(value)]
    if isinstance(shape, list):
        return [found for value in shape for found in operators_in(value)]
    return [each for part in shape if isinstance(part, Operator) for each in (part, *part.nested)]


def expressions_in(shape: Shape) -> list[str]:
    """The expressions in CEL of a format."""
    return [each.argument or "" for each in operators_in(shape) if each.name in EXPRESSIONS]


def _shape(value: object, key: str, depth: int) -> Shape:
    if depth > MOST_NESTED:
        raise FormatError(f"objects and lists are nested deeper than {MOST_NESTED}", key=key)
    if isinstance(value, str):
        try:
            return parse(value)
        except FormatError as error:
            raise FormatError(error.message, error.at, key) from None
    if isinstance(value, Mapping):
        return {name: _shape(each, f"{key}.{name}", depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_shape(each, f"{key}[{n}]", depth + 1) for n, each in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float)):
        return Constant(value)
    raise FormatError(f"{value!r} is not a value of JSON", key=key)


def _checked(name: str, argument: str | None, limit: int | None, at: int, depth: int) -> Operator:
    spec = OPERATORS.get(name)
    argument = argument or None  # empty parentheses are none
    if spec is None:
        raise FormatError(f"unknown operator %{name}%{_nearest(name)}", at)
    if spec.takes == "argument" and argument is None:
        raise FormatError(f"%{name}% needs an argument: %{name}(...)%", at)
    if spec.takes == "nothing" and argument is not None:
        raise FormatError(f"%{name}% takes no argument, not ({argument})", at)
    if limit is not None and not spec.limit:
        raise FormatError(f"%{name}% takes no length, not :{limit}", at)
    wrong = "" if argument is None else spec.check(argument)
    if wrong:
        raise FormatError(f"%{name}({argument})%: {wrong}", at)
    nested = _nested(argument or "", at, depth + 1) if name == "COALESCE" else ()
    return Operator(name, argument, limit, nested)


def _nearest(name: str) -> str:
    """The operators that may be meant: those that are written alike, else those that share a word."""
    near = difflib.get_close_matches(name, OPERATORS, NEAREST)
    if not near:
        words = set(name.split("_"))
        near = [each for each in OPERATORS if words & set(each.split("_"))][:NEAREST]
    if near:
        return f": did you mean {' or '.join(f'%{each}%' for each in near)}?"
    return ": the operators are Envoy's (docs/access-log.md), %REQ(X)%, %RESPONSE_CODE% and %DURATION% for example"


def _nested(argument: str, at: int, depth: int) -> tuple[Operator, ...]:
    """The operators of a COALESCE."""
    try:
        config = json.loads(argument)
    except (ValueError, RecursionError):
        config = None
    operators = config.get("operators") if isinstance(config, dict) else None
    if not isinstance(operators, list) or not operators:
        raise FormatError('%COALESCE(...)% takes a JSON object: {"operators": ["NAME", {"command": "REQ", ...}]}', at)
    if depth > MOST_NESTED:
        raise FormatError(f"COALESCE is nested deeper than {MOST_NESTED}", at)
    return tuple(_one_nested(each, at, depth) for each in operators)


def _one_nested(each: object, at: int, depth: int) -> Operator:
    if isinstance(each, str):
        return _checked(each, None, None, at, depth)
    if (
        isinstance(each, dict)
        and isinstance(each.get("command"), str)
        and each.keys() <= {"command", "param", "max_length"}
    ):
        param, limit = each.get("param"), each.get("max_length")
        if (param is None or isinstance(param, str)) and (limit is None or (type(limit) is int and limit >= 0)):
            return _checked(each["command"], param, limit, at, depth)
    raise FormatError(
        f"%COALESCE(...)%: {each!r} is neither the name of an operator nor an object with command, param and max_length",
        at,
    )


def _shown(text: str, at: int) -> str:
    rest = text[at : at + 24].partition("\n")[0]
    return repr(rest if len(text) <= at + 24 else f"{rest}...")


def _why(text: str, at: int) -> str:
    end = text.find("%", at + 1)
    if end < 0:
        return "its closing % is missing (a percent sign is written %%)"
    if "(" in text[at:end] and ")" not in text[at:]:
        return "its closing parenthesis is missing"
    if "(" in text[at:end] and "\n" in text[at : text.find(")", at)]:
        return "its argument has a line end"
    return "one is %NAME%, %NAME(argument)% or %NAME(argument):length%, its name in upper case (a percent sign is written %%)"
