"""What type checkers know of a client's arguments is what httpx has."""

from __future__ import annotations

import inspect
from typing import get_args

import httpx
import pytest

import meshlib
from meshlib.mesh.client_options import AsyncClientOptions, ClientOptions, LocalReplies, TransportOptions
from meshlib.mesh.doors import Doors
from meshlib.transport.httpx.transport import LOCAL_REPLIES


@pytest.mark.parametrize(
    ("options", "kind"), [(ClientOptions, httpx.Client), (AsyncClientOptions, httpx.AsyncClient)], ids=["sync", "async"]
)
def test_the_options_are_those_of_the_httpx_that_is_installed(options: type, kind: type) -> None:
    theirs = set(inspect.signature(kind).parameters)
    dropped = {"proxies", "app"}  # by httpx 0.28; 0.27 has them still
    assert set(options.__annotations__) == theirs - dropped


@pytest.mark.parametrize("name", ["http_transport", "async_http_transport"])
def test_the_options_of_transports_are_those_of_their_signature(name: str) -> None:
    parameters = inspect.signature(getattr(Doors, name)).parameters
    assert set(TransportOptions.__annotations__) == set(parameters) - {"self", "inner", "module"}


def test_what_local_replies_may_be_is_what_is_taken() -> None:
    assert get_args(LocalReplies) == LOCAL_REPLIES
    with meshlib.Mesh.from_resources([]) as mesh:
        for value in get_args(LocalReplies):
            mesh.client(local_replies=value).close()
        with pytest.raises(ValueError, match="must be 'raise' or 'respond'"):
            mesh.client(local_replies="respnd")  # type: ignore[call-overload]
