"""A request that is served, as the policies decide by that say who may come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from meshlib.policy.http_match import RequestView
from meshlib.policy.spiffe_id import SpiffeId


class InboundView(RequestView, Protocol):
    """Of the connection: ``peer`` is the address at its other end ("127.0.0.1:4711", "unix:/path"), ``source_ip`` the
    IP of that ("" when it is none), ``local_ip`` and ``port`` where it came to ("", 0: the server does not tell),
    ``sni`` the name that the client asked TLS for, ``secure`` whether it is TLS, ``mutual`` whether the peer has shown
    a certificate that was verified, ``peer_id`` its SPIFFE id (None when it has none that keeps to the standard) and
    ``principal`` that as a text ("").

    Of the request: ``protocol`` is "grpc" or "http", ``http2`` whether it is a stream of several, ``host_known``
    whether the server tells the authority at all, ``remote_ip`` whom the nearest proxy has seen (the last of
    X-Forwarded-For, as a sidecar believes it; else ``source_ip``). ``claims`` are those of a token that was verified,
    None before one was, ``request_principal`` is its "issuer/subject". ``routed`` is the path as the
    application's router has matched it, None before it has."""

    @property
    def protocol(self) -> str: ...
    @property
    def http2(self) -> bool: ...
    @property
    def peer(self) -> str: ...
    @property
    def source_ip(self) -> str: ...
    @property
    def remote_ip(self) -> str: ...
    @property
    def local_ip(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def sni(self) -> str: ...
    @property
    def host_known(self) -> bool: ...
    @property
    def principal(self) -> str: ...
    @property
    def peer_id(self) -> SpiffeId | None: ...
    @property
    def secure(self) -> bool: ...
    @property
    def mutual(self) -> bool: ...
    @property
    def claims(self) -> Mapping[str, object] | None: ...
    @property
    def request_principal(self) -> str: ...
    @property
    def routed(self) -> str | None: ...
