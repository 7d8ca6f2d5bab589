"""``requires``: who may call a route, said at the route."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import params
from starlette.requests import HTTPConnection

from meshlib.engine.caller_rule import CallerRule, Patterns
from meshlib_fastapi.dependencies import call_of
from meshlib_fastapi.routed import as_exception


def requires(
    *,
    principal: Patterns = (),
    namespace: Patterns = (),
    request_principal: Patterns = (),
    claims: Mapping[str, Patterns] | None = None,
) -> params.Depends:
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
    rule = CallerRule(principal, namespace, request_principal, claims)

    async def check(connection: HTTPConnection) -> None:
        refusal = rule.refusal(call_of(connection).request)
        if refusal is not None:
            raise as_exception(refusal)

    return params.Depends(check)
