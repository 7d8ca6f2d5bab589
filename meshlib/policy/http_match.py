"""One match block of an http rule: conditions that must all hold (Istio's HTTPMatchRequest).

What does not depend on the request (port, gateways, sourceLabels, sourceNamespace) is decided by the compiler and never
gets here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from meshlib.policy.secret_values import shown
from meshlib.policy.string_match import StringMatcher


class RequestView(Protocol):
    """A request as policy sees it. All texts are wire strings: bytes read as latin-1, so that none is lost. ``path`` has
    no query and no fragment; ``query`` is raw, without its question mark; ``full_path`` both as sent; ``authority`` is the
    Host (``:authority``) as sent, port included; ``dialled`` is the host and port that the URL names, which is where a
    request for a host outside the mesh goes whatever its Host says."""

    @property
    def method(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def authority(self) -> str: ...
    @property
    def dialled(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def version(self) -> str | None:
        """Pseudo-header ``:protocol``; None where only the connection will tell."""
        ...

    @property
    def query(self) -> str: ...
    @property
    def full_path(self) -> str: ...
    @property
    def has_envoy_headers(self) -> bool:
        """Whether there may be a header whose name begins with ``x-envoy-``: the caller asks something of the proxy."""
        ...

    def header(self, name: str) -> str | None:
        """A header's value (``name`` in lower case), repeated ones joined with ","; None when absent."""
        ...

    def header_values(self, name: str) -> list[str] | None:
        """Each value of a repeated header on its own; None when the header is not repeated."""
        ...


NamedMatchers = tuple[tuple[str, StringMatcher], ...]
_PSEUDO = {":path": "path", ":method": "method", ":authority": "authority", ":scheme": "scheme"}


@dataclass(frozen=True, slots=True)
class HttpMatch:
    """The block's settings. Header names are lower case; ``stat_prefix`` names the block in a metric."""

    name: str = ""
    stat_prefix: str = ""
    uri: StringMatcher | None = None
    scheme: StringMatcher | None = None
    method: StringMatcher | None = None
    authority: StringMatcher | None = None
    headers: NamedMatchers = ()
    without_headers: NamedMatchers = ()
    query_params: NamedMatchers = ()

    def compile(self) -> CompiledMatch:
        """The block as functions, cheapest condition first. They are made when they are first asked, as most blocks of many
        never are; regular expressions, which take their time, at once."""
        made = CompiledMatch(self)
        if self._has_regex():
            made.prepare()
        return made

    def _has_regex(self) -> bool:
        for matcher in (self.uri, self.scheme, self.method, self.authority):
            if matcher is not None and matcher.kind == "regex":
                return True
        for named in (self.headers, self.without_headers, self.query_params):
            if named and any(matcher.kind == "regex" for _, matcher in named):
                return True
        return False

    def conditions(self) -> tuple[Condition, ...]:
        """What must hold."""
        conditions: list[Condition] = []
        for field, attribute in (
            ("method", "method"),
            ("scheme", "scheme"),
            ("uri", "path"),
            ("authority", "authority"),
        ):
            matcher: StringMatcher | None = getattr(self, field)
            if matcher is not None:
                conditions.append(_on_attribute(field, attribute, matcher))
        conditions += [_on_header(name, matcher) for name, matcher in self.headers]
        conditions += [_on_missing_header(name, matcher) for name, matcher in self.without_headers]
        conditions += [_on_query(name, matcher) for name, matcher in self.query_params]
        return tuple(conditions)


class Condition:
    """One test of a request and its words: ``test(view)`` and ``why(view)`` for when it fails."""

    __slots__ = ("test", "why")

    def __init__(self, test: Callable[[RequestView], bool], why: Callable[[RequestView], str]) -> None:
        self.test = test
        self.why = why


class CompiledMatch:
    """A match block ready to use."""

    __slots__ = ("_conditions", "_tests", "settings")

    def __init__(self, settings: HttpMatch) -> None:
        self.settings = settings
        self._conditions: tuple[Condition, ...] | None = None
        self._tests: tuple[Callable[[RequestView], bool], ...] | None = None

    def prepare(self) -> tuple[Callable[[RequestView], bool], ...]:
        """Make the conditions now."""
        conditions = self.settings.conditions()
        tests = tuple(condition.test for condition in conditions)
        self._conditions, self._tests = conditions, tests
        return tests

    @property
    def sole(self) -> Callable[[RequestView], bool] | None:
        """The only condition: the same as calling the block, and quicker. None when there are several, or none."""
        tests = self._tests or self.prepare()
        return tests[0] if len(tests) == 1 else None

    def __call__(self, view: RequestView) -> bool:
        """Whether every condition holds."""
        tests = self._tests
        if tests is None:
            tests = self.prepare()
        for test in tests:  # noqa: SIM110 (all() over a generator costs three times as much)
            if not test(view):
                return False
        return True

    def why_not(self, view: RequestView) -> str | None:
        """The first condition that fails, in words; None when all hold."""
        if self._conditions is None:
            self.prepare()
        for condition in self._conditions or ():
            if not condition.test(view):
                return condition.why(view)
        return None

    @property
    def text(self) -> str:
        """The block in words: ``uri prefix '/api', header end-user exact 'jason'``."""
        s = self.settings
        parts = [f"{f} {m.text}" for f in ("uri", "method", "scheme", "authority") if (m := getattr(s, f)) is not None]
        parts += [f"header {name} {matcher.text}" for name, matcher in s.headers]
        parts += [f"without header {name} {matcher.text}" for name, matcher in s.without_headers]
        parts += [f"query {name} {matcher.text}" for name, matcher in s.query_params]
        return ", ".join(parts) or "everything"


def _on_attribute(field: str, attribute: str, matcher: StringMatcher) -> Condition:
    matches = matcher.compile()
    if attribute == "path":
        test: Callable[[RequestView], bool] = lambda view: matches(view.path)  # noqa: E731
    elif attribute == "method":
        test = lambda view: matches(view.method)  # noqa: E731
    elif attribute == "scheme":
        test = lambda view: matches(view.scheme)  # noqa: E731
    else:
        test = lambda view: matches(view.authority)  # noqa: E731
    what = "path" if field == "uri" else field
    return Condition(test, lambda view: f"{what} is {getattr(view, attribute)!r}, {matcher.text} wanted")


def _reader(name: str) -> Callable[[RequestView], str | None]:
    attribute = _PSEUDO.get(name)
    if attribute is None:
        return lambda view: view.header(name)
    if name == ":path":
        return lambda view: view.full_path
    return lambda view: getattr(view, attribute)


def _tester(name: str, matcher: StringMatcher) -> Callable[[RequestView, str], bool]:
    """Whether a header fits whose value (repeated ones joined) is given: Envoy asks each of several values on its own."""
    matches = matcher.compile()
    if name in _PSEUDO:
        return lambda view, value: matches(value)

    def test(view: RequestView, value: str) -> bool:
        if "," in value:
            several = view.header_values(name)
            if several is not None:
                return any([matches(one) for one in several])  # noqa: C419 (short lists, no generator)
        return matches(value)

    return test


def _on_header(name: str, matcher: StringMatcher) -> Condition:
    read = _reader(name)
    fits = _tester(name, matcher)

    def test(view: RequestView) -> bool:
        value = read(view)
        return value is not None and fits(view, value)

    if name not in _PSEUDO:  # nearly always: one function less at every call that is routed

        def test(view: RequestView) -> bool:
            value = view.header(name)
            return value is not None and fits(view, value)

    def why(view: RequestView) -> str:
        return f"header {name} is {shown(name, read(view))}, {matcher.text} wanted"

    return Condition(test, why)


def _on_missing_header(name: str, matcher: StringMatcher) -> Condition:
    read = _reader(name)
    if matcher.kind == "present":
        return Condition(
            lambda view: read(view) is None,
            lambda view: f"header {name} is {shown(name, read(view))}, it must be absent",
        )
    fits = _tester(name, matcher)
    # Istio inverts the match with a missing header read as "": absent is fine unless "" itself matches
    return Condition(
        lambda view: not fits(view, read(view) or ""),
        lambda view: f"header {name} is {shown(name, read(view) or '')}, which withoutHeaders {matcher.text} excludes",
    )


def first_parameter(query: str, name: str) -> str | None:
    """The first value of ``name`` in a raw query string, not percent-decoded; None when it is not there."""
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            return value
    return None


def _on_query(name: str, matcher: StringMatcher) -> Condition:
    matches = matcher.compile()

    def test(view: RequestView) -> bool:
        value = first_parameter(view.query, name)
        return value is not None and matches(value)

    def why(view: RequestView) -> str:
        found = shown(name, first_parameter(view.query, name))
        return f"query parameter {name} is {found}, {matcher.text} wanted"

    return Condition(test, why)
