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
    """A dependency, on a route, router or app, that lets only matching callers in:
    ``dependencies=[requires(principal="cluster.local/ns/shop/sa/web")]``. It narrows what
    the mesh's policies permit, and never widens it.

    Patterns are written as in AuthorizationPolicy: ``exact``, ``prefix*``, ``*suffix``, ``*``. Of several patterns one must
    match, and all arguments that are given must. ``principal`` is the SPIFFE ID of the caller's certificate, without
    ``spiffe://``; ``namespace`` the namespace in that ID; ``request_principal`` the ``issuer/subject`` of its token; ``claims``
    are claims of the token (for a list, any item may match). Without arguments, any caller with an identity is let in.

    A caller that needs a token and has sent none gets 401 with ``WWW-Authenticate: Bearer``, any other 403, as an
    ``HTTPException``. Raises ValueError for patterns that are not valid.
    """
    rule = CallerRule(principal, namespace, request_principal, claims)

    async def check(connection: HTTPConnection) -> None:
        refusal = rule.refusal(call_of(connection).request)
        if refusal is not None:
            raise as_exception(refusal)

    return params.Depends(check)
