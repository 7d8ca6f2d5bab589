"""Where a request may carry tokens, and which it carries: Envoy's ``jwt_authn`` extractor.

A location that has a value has a token, however broken: a bad one must not pass for a missing one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from meshlib.policy.http_match import RequestView

AUTHORIZATION = ("authorization", "Bearer ")
ACCESS_TOKEN = "access_token"
_TOKEN_BEGINS = re.compile(r"[A-Za-z0-9._-]")


class Found:
    """A token, and what carries it: a ``header`` (lower case) or a query ``parameter``; neither: a cookie."""

    __slots__ = ("header", "parameter", "token")

    def __init__(self, token: str, header: str = "", parameter: str = "") -> None:
        self.token = token
        self.header = header
        self.parameter = parameter

    def __repr__(self) -> str:
        return f"<Found in {self.header or self.parameter or 'a cookie'}>"


@dataclass(frozen=True, slots=True)
class TokenLocations:
    """``headers``: (name in lower case, prefix of the value); ``parameters``: of the query; ``cookies``: names. In Envoy's
    order, which ``token_locations`` makes."""

    headers: tuple[tuple[str, str], ...]
    parameters: tuple[str, ...]
    cookies: tuple[str, ...]

    def find(self, request: RequestView, hidden: Collection[str] = ()) -> list[Found]:
        """Every token of ``request``: headers line by line, parameters, cookies. ``hidden``: headers (lower case) that are
        not looked at, since they are ours to set."""
        found: list[Found] = []
        for name, prefix in self.headers:
            if name not in hidden:
                for value in _lines(request, name):
                    token = _after(prefix, value)
                    if token is not None:
                        found.append(Found(token, header=name))
        if self.parameters and request.query:
            found += self._in_query(request.query)
        if self.cookies and "cookie" not in hidden:
            found += self._in_cookies(request)
        return found

    def _in_query(self, query: str) -> Iterator[Found]:
        given: dict[str, list[str]] = {}
        for parameter in query.split("&"):
            name, _, value = parameter.partition("=")
            name = _decoded(name)
            if name in self.parameters:
                given.setdefault(name, []).append(_decoded(value))
        for name in self.parameters:
            # applications differ in which of several they read
            for value in dict.fromkeys(given.get(name, ())):
                yield Found(value, parameter=name)

    def _in_cookies(self, request: RequestView) -> Iterator[Found]:
        given: dict[str, list[str]] = {}
        for line in _lines(request, "cookie"):
            for pair in line.split(";"):
                name, equals, value = pair.lstrip(" \t").partition("=")
                if equals and name in self.cookies:
                    given.setdefault(name, []).append(_unquoted(value.rstrip(" \t")))
        for name in self.cookies:
            for value in dict.fromkeys(given.get(name, ())):
                yield Found(value)


def token_locations(
    headers: Sequence[tuple[str, str]], parameters: Sequence[str], cookies: Sequence[str]
) -> TokenLocations:
    """The locations that a rule names; when it names none, ``Authorization: Bearer`` and ``access_token``."""
    if not headers and not parameters and not cookies:
        headers, parameters = [AUTHORIZATION], [ACCESS_TOKEN]
    unique = dict.fromkeys((name.lower(), prefix) for name, prefix in headers)
    return TokenLocations(
        tuple(sorted(unique, key=lambda header: header[0] + header[1])),
        tuple(sorted(set(parameters))),
        tuple(sorted(set(cookies))),
    )


def without_parameter(query: str, name: str) -> str:
    """The query without the parameters of this name; the others stay as they were sent."""
    return "&".join(p for p in query.split("&") if _decoded(p.partition("=")[0]) != name)


def is_preflight(header: Callable[[str], str | None], method: str) -> bool:
    """Whether it is a CORS preflight, which browsers send without credentials."""
    return method == "OPTIONS" and bool(header("origin")) and bool(header("access-control-request-method"))


def _lines(request: RequestView, name: str) -> Sequence[str]:
    several = request.header_values(name) if name != AUTHORIZATION[0] else None  # which Envoy reads as one line
    if several is not None:
        return several
    one = request.header(name)
    return () if one is None else (one,)


def _after(prefix: str, value: str) -> str | None:
    """The token of a header's value: what follows the prefix, which may stand anywhere in it."""
    value = value.strip(" \t")
    if not prefix:
        return value
    at = value.find(prefix)
    if at < 0:
        return None
    begins = _TOKEN_BEGINS.search(value, at + len(prefix))
    return value if begins is None else value[begins.start() :]


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1", "replace")).decode("latin-1") if "%" in text else text


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value
