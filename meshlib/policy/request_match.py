"""Which requests a limit of a server is about: their path, method and headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from meshlib.policy.http_match import Condition, HttpMatch, NamedMatchers
from meshlib.policy.inbound_view import InboundView
from meshlib.policy.path_spellings import Normalization, path_spellings
from meshlib.policy.string_match import StringMatcher


class RoutedView(InboundView, Protocol):
    """A request of which the application's router may have chosen the route: ``routed`` is its path, None before."""

    @property
    def routed(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class RequestMatch:
    """All that is given must hold. ``path`` holds when it does at any spelling of the path, or at that of its route: nobody
    gets around a limit by writing ``/%61pi`` for ``/api``."""

    path: StringMatcher | None = None
    method: StringMatcher | None = None
    headers: NamedMatchers = ()


Test = Callable[[RoutedView], bool]


def compile_matches(matches: Iterable[RequestMatch], normalization: Normalization) -> Test | None:
    """Whether one of ``matches`` holds; None when there are none: all requests are meant."""
    tests = [_compile(match, normalization) for match in matches]
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda request: any(test(request) for test in tests)


def _compile(match: RequestMatch, normalization: Normalization) -> Test:
    conditions: tuple[Condition, ...] = HttpMatch(method=match.method, headers=match.headers).conditions()
    others = tuple(condition.test for condition in conditions)
    if match.path is None:
        return lambda request: all(test(request) for test in others)
    path = match.path.compile()

    def holds(request: RoutedView) -> bool:
        for test in others:
            if not test(request):
                return False
        spellings = path_spellings(request.path, normalization)
        if path(spellings.wire):
            return True
        routed = request.routed
        return any(map(path, spellings.forbidden_at)) or (routed is not None and path(routed))

    return holds
