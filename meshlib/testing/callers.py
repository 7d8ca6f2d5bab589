"""``as_caller``: an application as it is called by somebody, for test clients that have no TLS and no tokens."""

from __future__ import annotations

import inspect
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from meshlib.engine.stand_in import STAND_IN, StandIn
from meshlib.policy.spiffe_id import SCHEME, SpiffeId, why_not

App = TypeVar("App", bound=Callable[..., Any])


class AsCaller(Protocol):
    """What the fixture ``mesh_caller`` is: ``as_caller``."""

    def __call__(
        self,
        app: App,
        *,
        principal: str | None = None,
        claims: Mapping[str, object] | None = None,
        source_ip: str | None = None,
    ) -> App: ...


def as_caller(
    app: App,
    *,
    principal: str | None = None,
    claims: Mapping[str, object] | None = None,
    source_ip: str | None = None,
) -> App:
    """Wrap ``app``, an ASGI or WSGI application, so that a test client calls it as a given caller::

        client = TestClient(as_caller(app, principal="cluster.local/ns/shop/sa/cart"))     # Starlette, FastAPI
        client = as_caller(app, claims={"iss": "https://idp", "sub": "jo"}).test_client()  # Flask
        transport = httpx.ASGITransport(as_caller(app, source_ip="10.0.0.7"))              # and httpx.WSGITransport

    ``principal`` is the SPIFFE ID in the caller's certificate (``spiffe://`` may be left out); ``claims`` are the claims of a
    verified token, none of which is sent; ``source_ip`` is the address that it calls from. By default the caller has no
    certificate, no token and the address that the test client makes up.

    In all else the result behaves like ``app``. meshlib's middleware, wherever it is in the application, enforces the same
    policies as for a caller over mTLS. RequestAuthentication has no token to verify, so it does not change the request either
    (``outputClaimToHeaders``). Raises ValueError for a SPIFFE ID or an address that is not valid.
    """
    identity = _spiffe_id(principal) if principal else ""
    if source_ip:
        source_ip = str(ipaddress.ip_address(source_ip))
    caller = StandIn(identity, claims, source_ip or "")
    called: Any = _CalledAsgi(app, caller) if _is_asgi(app) else _CalledWsgi(app, caller)
    return called  # type: ignore[no-any-return]  # it does what the application does


def _spiffe_id(principal: str) -> str:
    text = principal if principal.startswith(SCHEME) else SCHEME + principal
    found = SpiffeId.parse(text)
    if found is None:
        raise ValueError(f"the principal {principal!r} is not a valid SPIFFE ID: it {why_not(text)}")
    return found.text


def _is_asgi(app: Callable[..., Any]) -> bool:
    """As its call is asynchronous, or takes scope, receive and send."""
    call = app if inspect.isfunction(app) or inspect.ismethod(app) else type(app).__call__
    if inspect.iscoroutinefunction(call):
        return True
    try:
        return len(inspect.signature(app).parameters) == 3
    except (TypeError, ValueError):
        return False


class _Called(Generic[App]):
    """What is asked of the application, it is asked itself."""

    def __init__(self, app: App, caller: StandIn) -> None:
        self._app = app
        self._caller = caller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def __repr__(self) -> str:
        return f"<{self._app!r} called by {self._caller!r}>"


class _CalledAsgi(_Called[App]):
    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        await self._app({**scope, STAND_IN: self._caller}, receive, send)


class _CalledWsgi(_Called[App]):
    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ[STAND_IN] = self._caller
        made: Iterable[bytes] = self._app(environ, start_response)
        return made

    @property
    def test_client(self) -> Any:
        """Flask's, of this and not of the application."""
        return type(self._app).test_client.__get__(self)  # type: ignore[attr-defined]  # AttributeError where there is none
