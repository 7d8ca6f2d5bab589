"""Names and values of headers: in conditions, in operations, in CORS policies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import Headers, HttpRoute

# Istio's own expression has a range from + to . in it, and so allows a comma
_name = re.compile(r"[!#$%&'*+,\-.^_`|~A-Za-z0-9]+").fullmatch
_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_bad_value = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
_CLAIMS = "@request.auth.claims"
_AUTHORITY = frozenset({"host", ":authority"})
NAME_HINT = "letters, digits and dashes, such as x-user"


def is_claim(name: str) -> bool:
    """``@request.auth.claims.sub`` and ``@request.auth.claims[sub]``: a claim of the caller's token, not a header."""
    if not name.lower().startswith(_CLAIMS):
        return False
    rest = name[len(_CLAIMS) :]
    return (rest[:1] == "." and len(rest) > 1) or (rest[:1] == "[" and rest[-1] == "]" and len(rest) > 2)


def is_header_name(name: str, *, pseudo: bool = False) -> bool:
    """Whether a header can be called so (RFC 9110: a token); with ``pseudo`` a pseudo header, too."""
    return _token(name) is not None or (pseudo and name in _PSEUDO)


def header_name(name: str, loc: Loc, *, pseudo: bool = False) -> Iterator[Notice]:
    """The name of a header that is read or written. Istio and Envoy take names that no header can have, and then find nothing
    (a DENY rule that never acts), or write what their peer refuses."""
    if not is_header_name(name, pseudo=pseudo):
        yield refused("bad-header-name", loc, f"{name!r} is not the name of a header", NAME_HINT)


def condition_name(name: str, loc: Loc) -> Iterator[Notice]:
    """The name of a header that a rule looks at: a header, a pseudo header, or a claim."""
    if name not in _PSEUDO and _name(name) is None and not is_claim(name):
        yield refused(
            "bad-header-name",
            loc,
            f"{name!r} is not the name of a header",
            NAME_HINT,
        )


def cors_name(name: str, loc: Loc) -> Iterator[Notice]:
    """A header, or * for all."""
    if _name(name) is None:
        yield refused("bad-header-name", loc, f"{name!r} is not the name of a header", '"*" stands for all')


def header_operations(headers: Headers, loc: Loc) -> Iterator[Notice]:
    """``headers`` of a rule or of a destination: what requests and responses get and lose."""
    if headers is None:
        return
    for direction in ("request", "response"):
        operations = getattr(headers, direction)
        if operations is not None:
            yield from _changes(operations.add, (*loc, direction, "add"), authority=direction == "request")
            yield from _changes(operations.set, (*loc, direction, "set"), authority=direction == "request")
            yield from _removals(operations.remove, (*loc, direction, "remove"))


def _changes(values: Mapping[str, str] | None, loc: Loc, *, authority: bool) -> Iterator[Notice]:
    for name, value in (values or {}).items():
        if not authority or name.lower() not in _AUTHORITY:
            yield from _can_be_changed(name, (*loc, name))
        problem = value_problem(value)
        if problem:
            yield refused(
                "bad-header-value",
                (*loc, name),
                f"the value of {name} cannot be a header: {problem}",
                "%% stands for a percent sign, %NAME% and %NAME(x)% for what Envoy fills in",
            )


def _removals(names: Sequence[str] | None, loc: Loc) -> Iterator[Notice]:
    for index, name in enumerate(names or ()):
        yield from _can_be_changed(name, (*loc, index))


def _can_be_changed(name: str, loc: Loc) -> Iterator[Notice]:
    if not name:
        yield refused("bad-header-name", loc, "the name of the header is empty", "name it, such as x-user")
    elif name.startswith(":") or name.lower() == "host":
        yield refused(
            "protected-header", loc, f"{name} cannot be changed here", "rewrite.authority, or set Host of the request"
        )
    else:
        yield from header_name(name, loc)


def one_authority(rule: HttpRoute, loc: Loc) -> Iterator[Notice]:
    """A rule changes the authority once: by ``rewrite``, or by an operation on Host or ``:authority``."""
    request = rule.headers.request if rule.headers is not None else None
    if request is None:
        return
    said = (rule.rewrite.authority if rule.rewrite is not None else "") or ""
    for verb in ("set", "add"):
        for name, value in (getattr(request, verb) or {}).items():
            if name.lower() not in _AUTHORITY:
                continue
            if said:
                yield refused(
                    "several-authorities",
                    (*loc, "headers", "request", verb, name),
                    f"the authority is changed twice: to {said!r} and to {value!r}",
                    "keep one of them",
                )
                return
            said = value


def value_problem(value: str) -> str:
    """Why this cannot be the value of a header; "" when it can. It may hold ``%NAME%`` and ``%NAME(arguments)%``."""
    if _bad_value(value):
        return "it holds a control character"
    return _operators_problem(value) if "%" in value else ""


_LITERAL, _VARIABLE, _ARRAY, _STRING_START, _STRING, _AFTER_STRING, _ARGUMENTS_END, _VARIABLE_END = range(8)
_NEXT: dict[int, tuple[dict[str, int], int | str]] = {
    _LITERAL: ({"%": _VARIABLE}, _LITERAL),
    _VARIABLE: ({"%": _LITERAL, "(": _ARRAY}, _VARIABLE),
    _ARRAY: ({"[": _STRING_START, " ": _ARRAY}, _STRING),
    _STRING_START: ({'"': _STRING, " ": _STRING_START}, "a quoted argument is missing"),
    _STRING: ({")": _VARIABLE_END, '"': _AFTER_STRING}, _STRING),
    _AFTER_STRING: (
        {",": _STRING_START, "]": _ARGUMENTS_END, " ": _AFTER_STRING},
        "arguments are separated by commas",
    ),
    _ARGUMENTS_END: ({")": _VARIABLE_END, " ": _ARGUMENTS_END}, "a closing ) is missing"),
    _VARIABLE_END: ({"%": _LITERAL, " ": _VARIABLE_END}, "a closing % is missing"),
}
"""What each character leads to from each state, and what any other does: to a state, or what is wrong."""


def _operators_problem(value: str) -> str:
    """Envoy's own reading of ``%NAME(["a", "b"])%``, a state machine over the text."""
    state = _LITERAL
    at = 0
    while at < len(value):
        char, follows = value[at], value[at + 1 : at + 2]
        if state == _LITERAL and char == "%" and follows in ("", "%"):
            if not follows:
                return "it ends with a lone %"
            at += 1
        elif state == _STRING and char == "\\":
            if not follows:
                return "it ends with a lone backslash"
            at += 1
        else:
            known, otherwise = _NEXT[state]
            following = known.get(char, otherwise)
            if isinstance(following, str):
                return following
            state = following
        at += 1
    return "" if state == _LITERAL else "it ends within %...%"
