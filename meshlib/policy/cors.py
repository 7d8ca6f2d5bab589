"""Cross-origin requests (VirtualService ``corsPolicy``), as Envoy's cors filter treats them.

The policy looks only at requests with an Origin. A preflight of an allowed origin is answered here; an actual request is
never blocked: its response tells the browser whether the page may read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from meshlib.policy.header_ops import Headers, RawHeaders
from meshlib.policy.string_match import StringMatcher

Header = Callable[[str], str | None]

ALLOW_ORIGIN = b"access-control-allow-origin"
ALLOW_CREDENTIALS = b"access-control-allow-credentials"
ALLOW_METHODS = b"access-control-allow-methods"
ALLOW_HEADERS = b"access-control-allow-headers"
EXPOSE_HEADERS = b"access-control-expose-headers"
MAX_AGE = b"access-control-max-age"


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """Lists as they go into headers; "*" in methods or headers echoes what was asked for. ``max_age`` in seconds, ""
    when not set. ``forward_unmatched``: a preflight of another origin goes upstream (else it is answered here,
    without the one header that would allow it)."""

    origins: tuple[StringMatcher, ...] = ()
    allow_methods: str = ""
    allow_headers: str = ""
    expose_headers: str = ""
    max_age: str = ""
    allow_credentials: bool = False
    forward_unmatched: bool = True
    _tests: tuple[Callable[[str], bool], ...] = field(init=False, repr=False, compare=False)
    _any: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tests = tuple(origin.compile() for origin in self.origins)
        object.__setattr__(self, "_tests", tests)
        # Envoy lets a matcher that takes a literal "*" take every origin
        object.__setattr__(self, "_any", any(test("*") for test in tests))

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may read the responses."""
        return self._any or any([test(origin) for test in self._tests])  # noqa: C419 (short lists, no generator)

    def preflight(self, method: str, header: Header) -> RawHeaders | None:
        """The headers of the response to a preflight; None when the request is none (or is forwarded)."""
        if method != "OPTIONS":
            return None
        origin, wanted = header("origin"), header("access-control-request-method")
        if not origin or not wanted:
            return None
        made: RawHeaders = []
        if self.allows(origin):
            made.append((ALLOW_ORIGIN, origin.encode("latin-1")))
        elif self.forward_unmatched:
            return None
        if self.allow_credentials:
            made.append((ALLOW_CREDENTIALS, b"true"))
        if self.allow_methods:
            made.append(
                (ALLOW_METHODS, (wanted if self.allow_methods == "*" else self.allow_methods).encode("latin-1"))
            )
        allowed = self.allow_headers
        if allowed:
            if allowed == "*":
                allowed = header("access-control-request-headers") or ""
            made.append((ALLOW_HEADERS, allowed.encode("latin-1")))
        if self.max_age:
            made.append((MAX_AGE, self.max_age.encode()))
        if self.expose_headers and self.allows(origin):  # of no use in a preflight, but Envoy says it
            made.append((EXPOSE_HEADERS, self.expose_headers.encode("latin-1")))
        return made

    def response_headers(self, headers: Headers, header: Header) -> Headers:
        """The response's headers with what the browser needs, when the request came from an allowed origin."""
        origin = header("origin")
        if not origin or not self.allows(origin):
            return headers
        mine: RawHeaders = [(ALLOW_ORIGIN, origin.encode("latin-1"))]
        if self.allow_credentials:
            mine.append((ALLOW_CREDENTIALS, b"true"))
        if self.expose_headers:
            mine.append((EXPOSE_HEADERS, self.expose_headers.encode("latin-1")))
        replaced = {name for name, _ in mine}
        return [pair for pair in headers if pair[0].lower() not in replaced] + mine
