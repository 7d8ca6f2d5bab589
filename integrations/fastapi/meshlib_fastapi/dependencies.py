"""What handlers ask for by the types of their arguments: ``Caller``, ``Claims``, ``MeshClient``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from meshlib.engine.principal import Principal
from meshlib.httpx_module import usual
from meshlib.problems import MeshError
from meshlib.transport.asgi.middleware import CALL

if TYPE_CHECKING:
    import httpx

    from meshlib.engine.inbound import InboundCall
    from meshlib_fastapi.extension import MeshExtension
else:
    httpx = usual()

EXTENSION = "meshlib.fastapi"
"""Where the extension is in a scope."""
NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


def call_of(connection: HTTPConnection) -> InboundCall:
    """The call being served. Raises ``MeshError`` for an application without the extension."""
    found = connection.scope.get(CALL)
    if found is None:
        raise MeshError("this application is not in a mesh: call MeshExtension(app, mesh) where the app is made")
    return cast("InboundCall", found)


def extension_of(connection: HTTPConnection) -> MeshExtension:
    """The extension that serves this request. Raises ``MeshError`` for an application without it."""
    found = connection.scope.get(EXTENSION)
    if found is None:
        raise MeshError("this application is not in a mesh: call MeshExtension(app, mesh) where the app is made")
    return cast("MeshExtension", found)


async def current_caller(connection: HTTPConnection) -> Principal:
    """The caller's SPIFFE ID; "" if it is unauthenticated."""
    return Principal(call_of(connection).request)


async def current_claims(connection: HTTPConnection) -> Mapping[str, Any]:
    """The claims of the caller's token, verified by a RequestAuthentication; empty without a token."""
    claims = call_of(connection).request.claims
    return NO_CLAIMS if claims is None else claims


async def mesh_client(connection: HTTPConnection) -> httpx.AsyncClient:
    """The client of this application's mesh."""
    return extension_of(connection).client


Caller = Annotated[Principal, Depends(current_caller)]
"""The caller's SPIFFE ID, a ``str`` with ``trust_domain``, ``namespace`` and ``service_account``; "" without one: the mesh's
policies and ``requires`` say who may come in."""
Claims = Annotated[Mapping[str, Any], Depends(current_claims)]
"""The verified claims of the caller's token; empty when it has sent none."""
MeshClient = Annotated[httpx.AsyncClient, Depends(mesh_client)]
"""An ``httpx.AsyncClient`` whose calls go through the mesh; one an application, closed with it."""
