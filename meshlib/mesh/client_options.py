"""What type checkers know of the arguments of ``mesh.client()`` and of transports: httpx's own, by httpx's types.

A test compares the names with those of the httpx that is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    import httpx
    from httpx._types import AuthTypes, CookieTypes, HeaderTypes, ProxyTypes, QueryParamTypes, TimeoutTypes

    from meshlib.transport.upstream.client_limits import HttpxLimits
    from meshlib.transport.upstream.tls import Cert, Verify

LocalReplies: TypeAlias = Literal["raise", "respond"]
"""What a caller gets where the network has failed: httpx's exceptions, or the responses that Envoy would give."""

C_co = TypeVar("C_co", covariant=True)


class ClientModule(Protocol[C_co]):
    """httpx or httpx2, as what has clients of a kind."""

    @property
    def Client(self) -> type[C_co]: ...  # noqa: N802 (their name)


class AsyncClientModule(Protocol[C_co]):
    """The same on event loops."""

    @property
    def AsyncClient(self) -> type[C_co]: ...  # noqa: N802 (their name)


class TransportModule(Protocol[C_co]):
    """httpx or httpx2, as what has transports of a kind."""

    @property
    def BaseTransport(self) -> type[C_co]: ...  # noqa: N802 (their name)


class AsyncTransportModule(Protocol[C_co]):
    """The same on event loops."""

    @property
    def AsyncBaseTransport(self) -> type[C_co]: ...  # noqa: N802 (their name)


class TransportOptions(TypedDict, total=False):
    """Of ``mesh.http_transport()`` and ``mesh.async_http_transport()``."""

    local_replies: LocalReplies
    verify: Verify
    cert: Cert
    trust_env: bool
    http2: bool
    limits: HttpxLimits | None


class OptionsOfBoth(TypedDict, total=False):
    """Of ``httpx.Client`` and ``httpx.AsyncClient``."""

    auth: AuthTypes | None
    params: QueryParamTypes | None
    headers: HeaderTypes | None
    cookies: CookieTypes | None
    verify: ssl.SSLContext | str | bool
    cert: Cert
    trust_env: bool
    http1: Literal[True]
    http2: bool
    proxy: ProxyTypes | None
    timeout: TimeoutTypes
    follow_redirects: bool
    limits: httpx.Limits
    max_redirects: int
    event_hooks: Mapping[str, list[Callable[..., object]]] | None
    base_url: httpx.URL | str
    default_encoding: str | Callable[[bytes], str]


class ClientOptions(OptionsOfBoth, total=False):
    """Of ``httpx.Client``."""

    mounts: Mapping[str, httpx.BaseTransport | None] | None
    transport: httpx.BaseTransport | None


class AsyncClientOptions(OptionsOfBoth, total=False):
    """Of ``httpx.AsyncClient``."""

    mounts: Mapping[str, httpx.AsyncBaseTransport | None] | None
    transport: httpx.AsyncBaseTransport | None
