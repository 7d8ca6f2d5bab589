"""``requires``: who may call a route, said at the route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection

from meshlib_fastapi.dependencies import call_of

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest

DENIED = "RBAC: access denied"
Patterns = str | Sequence[str]


def requires(
    *,
    principal: Patterns = (),
    namespace: Patterns = (),
    request_principal: Patterns = (),
    claims: Mapping[str, Patterns] | None = None,
) -> Any:
    """A dependency that lets only such callers in, of a route, a router or an app:
    ``dependencies=[requires(principal="cluster.local/ns/shop/sa/web")]``. It narrows what
    the mesh's policies permit, and never widens it.

    Patterns are those of AuthorizationPolicy: ``exact``, ``prefix*``, ``*suffix``, ``*``; of several one must match, and every
    argument that is given must hold. ``principal``: the SPIFFE ID of the caller's certificate, without ``spiffe://``;
    ``namespace``: of that ID; ``request_principal``: ``issuer/subject`` of its token; ``claims``: of the token, of lists any
    item. Without arguments: any caller with an identity.

    Who has sent no token where one is needed gets 401 with ``WWW-Authenticate: Bearer``, everybody else 403, as
    ``HTTPException``. Raises ValueError for patterns that are none.
    """
    principals = _patterns("principal", principal, "spiffe://")
    namespaces = _patterns("namespace", namespace)
    users = _patterns("request_principal", request_principal)
    of_claims = [(name, _patterns(f"claims[{name!r}]", wanted)) for name, wanted in (claims or {}).items()]
    if not (principals or namespaces or users or of_claims):
        principals = ("*",)
    needs_token = bool(users or of_claims)

    async def check(connection: HTTPConnection) -> None:
        request = call_of(connection).request
        if needs_token and request.claims is None:
            raise HTTPException(401, "Jwt is missing", {"WWW-Authenticate": "Bearer"})
        if not (
            _holds(principals, request.principal.removeprefix("spiffe://"))
            and _holds(namespaces, _namespace(request))
            and _holds(users, request.request_principal)
            and all(any(_holds(wanted, value) for value in _values(request, name)) for name, wanted in of_claims)
        ):
            raise HTTPException(403, DENIED)

    return Depends(check)


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


def _namespace(request: InboundRequest) -> str:
    return "" if request.peer_id is None else request.peer_id.namespace


def _values(request: InboundRequest, name: str) -> list[str]:
    """The texts of a claim: of a list each that is one."""
    found = (request.claims or {}).get(name)
    return [value for value in (found if isinstance(found, list | tuple) else [found]) if isinstance(value, str)]
