"""Conditions as Envoy's configuration has them (``StringMatcher``, ``HeaderMatcher``, ``QueryParameterMatcher``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from meshlib.policy.http_match import RequestView
from meshlib.policy.regex import compile_full_match, wire

PSEUDO = {":path": "full_path", ":method": "method", ":authority": "authority", ":scheme": "scheme"}


@dataclass(frozen=True, slots=True)
class TextMatch:
    """``kind``: exact, prefix, suffix, contains, regex (RE2, whole text), or range (``low`` <= a whole number < ``high``)."""

    kind: str
    value: str = ""
    ignore_case: bool = False
    low: int = 0
    high: int = 0

    def compile(self) -> Callable[[str], bool]:
        """A test of a wire string."""
        if self.kind == "regex":
            return compile_full_match(self.value)
        if self.kind == "range":
            return self._in_range
        value = wire(self.value)
        tests: dict[str, Callable[[str, str], bool]] = {
            "exact": str.__eq__,
            "prefix": str.startswith,
            "suffix": str.endswith,
            "contains": str.__contains__,
        }
        test = tests[self.kind]
        if self.ignore_case:
            value = value.lower()
            return lambda text: test(text.lower(), value)
        return lambda text: test(text, value)

    def _in_range(self, text: str) -> bool:
        digits = text[1:] if text[:1] == "-" else text
        return digits.isascii() and digits.isdigit() and len(digits) < 20 and self.low <= int(text) < self.high


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """``text`` None: it is ``present`` (or is not). An absent header matches nothing (nor does its
    inversion), unless it counts as empty."""

    name: str
    text: TextMatch | None = None
    present: bool = True
    invert: bool = False
    missing_as_empty: bool = False

    def compile(self) -> Callable[[RequestView], bool]:
        """A test of a request."""
        value_of, invert = header_of(self.name), self.invert
        if self.text is None:
            wanted = self.present is not invert
            empty = self.missing_as_empty
            return lambda request: (empty or value_of(request) is not None) is wanted
        test, empty = self.text.compile(), self.missing_as_empty

        def holds(request: RequestView) -> bool:
            value = value_of(request)
            if value is None:
                if not empty:
                    return False
                value = ""
            return test(value) is not invert

        return holds


@dataclass(frozen=True, slots=True)
class QueryMatch:
    """Of a parameter of the query; ``text`` None: it is there."""

    name: str
    text: TextMatch | None = None

    def compile(self) -> Callable[[RequestView], bool]:
        """A test of a request."""
        name, test = self.name, None if self.text is None else self.text.compile()

        def holds(request: RequestView) -> bool:
            value = query_parameter(request.query, name)
            return value is not None and (test is None or test(value))

        return holds


def header_of(name: str) -> Callable[[RequestView], str | None]:
    """The value of a header or pseudo-header; repeated ones joined with ","."""
    name = name.lower()
    attribute = PSEUDO.get(name)
    if attribute is None:
        return lambda request: request.header(name)
    return lambda request: getattr(request, attribute) or None


def query_parameter(query: str, name: str) -> str | None:
    """The first value of a parameter, percent-decoded; None when it is not there."""
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == name or ("%" in key and _decoded(key) == name):
            return _decoded(value)
    return None


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode("latin-1") if "%" in text else text
