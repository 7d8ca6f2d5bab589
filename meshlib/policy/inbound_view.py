"""A request that is served, as the policies decide by that say who may come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from meshlib.policy.http_match import RequestView


class InboundView(RequestView, Protocol):
    """``peer`` is the address at the other end of the connection ("127.0.0.1:4711", "unix:/path"), ``port`` the port that the
    request came to (0: its server does not tell). ``principal`` is the peer's verified SPIFFE id ("" when it has shown none),
    ``secure`` whether the connection is TLS, ``mutual`` whether the peer has shown a certificate. ``claims`` are those of a
    token that was verified, None before one was. ``protocol`` is "grpc" or "http"."""

    @property
    def protocol(self) -> str: ...
    @property
    def peer(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def principal(self) -> str: ...
    @property
    def secure(self) -> bool: ...
    @property
    def mutual(self) -> bool: ...
    @property
    def claims(self) -> Mapping[str, object] | None: ...
