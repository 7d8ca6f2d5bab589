"""Who may call a route, said at the route: what ``requires`` of the integrations means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from meshlib.policy.refusal import Refusal

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest

Patterns: TypeAlias = str | Sequence[str]

DENIED = Refusal(403, "RBAC: access denied", detail="requires")
NO_TOKEN = Refusal(401, "Jwt is missing", detail="requires", headers=((b"www-authenticate", b"Bearer"),))


class CallerRule:
    """Lets only such callers in. It narrows what the mesh's policies permit, and never widens it.

    Patterns are those of AuthorizationPolicy: ``exact``, ``prefix*``, ``*suffix``, ``*``; of several one must match, and every
    argument that is given must hold. ``principal``: the SPIFFE ID of the caller's certificate, without ``spiffe://``;
    ``namespace``: of that ID; ``request_principal``: ``issuer/subject`` of its token; ``claims``: of the token, of lists any
    item. Without arguments: any caller with an identity. Raises ValueError for patterns that are none."""

    __slots__ = ("_claims", "_namespaces", "_needs_token", "_principals", "_users")

    def __init__(
        self,
        principal: Patterns = (),
        namespace: Patterns = (),
        request_principal: Patterns = (),
        claims: Mapping[str, Patterns] | None = None,
    ) -> None:
        self._principals = _patterns("principal", principal, "spiffe://")
        self._namespaces = _patterns("namespace", namespace)
        self._users = _patterns("request_principal", request_principal)
        self._claims = [(name, _patterns(f"claims[{name!r}]", wanted)) for name, wanted in (claims or {}).items()]
        if not (self._principals or self._namespaces or self._users or self._claims):
            self._principals = ("*",)
        self._needs_token = bool(self._users or self._claims)

    def refusal(self, request: InboundRequest) -> Refusal | None:
        """Why the caller is turned away: 401 without a token where one is needed, else 403; None when it is not."""
        if self._needs_token and request.claims is None:
            return NO_TOKEN
        if (
            _holds(self._principals, request.principal.removeprefix("spiffe://"))
            and _holds(self._namespaces, "" if request.peer_id is None else request.peer_id.namespace)
            and _holds(self._users, request.request_principal)
            and all(any(_holds(wanted, value) for value in _values(request, name)) for name, wanted in self._claims)
        ):
            return None
        return DENIED


def _patterns(name: str, given: Patterns, prefix: str = "") -> tuple[str, ...]:
    found = (given,) if isinstance(given, str) else tuple(given)
    for pattern in found:
        if not isinstance(pattern, str) or not pattern or (pattern != "*" and "*" in pattern[1:-1]) or pattern == "**":
            raise ValueError(f"{name}: {pattern!r} is not a valid pattern: exact, prefix*, *suffix or *")
    return tuple(pattern.removeprefix(prefix) for pattern in found)


def _holds(patterns: tuple[str, ...], value: str) -> bool:
    """Nobody known matches no pattern."""
    if not patterns:
        return True
    if not value:
        return False
    return any(
        pattern == "*"
        or (pattern[0] == "*" and value.endswith(pattern[1:]))
        or (pattern[-1] == "*" and value.startswith(pattern[:-1]))
        or pattern == value
        for pattern in patterns
    )


def _values(request: InboundRequest, name: str) -> list[str]:
    """The texts of a claim: of a list each that is one."""
    found = (request.claims or {}).get(name)
    return [value for value in (found if isinstance(found, list | tuple) else [found]) if isinstance(value, str)]
