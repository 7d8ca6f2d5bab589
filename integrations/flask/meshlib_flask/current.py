"""Who calls, for views and whatever they call: ``current_caller`` and ``current_claims``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

from werkzeug.local import LocalProxy

from meshlib.engine.inbound import InboundCall
from meshlib.engine.principal import Principal
from meshlib.problems import MeshError
from meshlib.transport.wsgi.response import serving

NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


def current_call() -> InboundCall:
    """The call being served. Raises ``MeshError`` outside a request."""
    found = serving.get()
    if found is None:
        raise MeshError(
            "no request of the mesh is being served here: call Mesh(app, mesh) where the application is made, "
            "and ask in views and what they call"
        )
    return found


def _caller() -> Principal:
    return Principal(current_call().request)


def _claims() -> Mapping[str, Any]:
    claims = current_call().request.claims
    return NO_CLAIMS if claims is None else claims


current_caller = cast("Principal", LocalProxy(_caller))
"""The SPIFFE ID of the caller of the request that is being served, a ``str`` with ``trust_domain``, ``namespace`` and
``service_account``; "" of one without: the mesh's policies and ``requires`` say who may come in."""
current_claims = cast("Mapping[str, Any]", LocalProxy(_claims))
"""The claims of the caller's token, verified by a RequestAuthentication; none without a token."""
