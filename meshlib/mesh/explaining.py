"""What ``mesh.explain`` makes of a URL: the request that httpx or grpcio would send, explained by the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshlib.engine.explain import explain
from meshlib.engine.plain_request import PlainRequest
from meshlib.httpx_module import usual
from meshlib.policy.secret_values import url_shown
from meshlib.problems import MeshError
from meshlib.transport.grpcio.client.method import Named
from meshlib.transport.grpcio.client.request import GrpcRequest
from meshlib.transport.httpx.origins import SPOKEN, BadUrl, origin_of, written_port

if TYPE_CHECKING:
    from meshlib.engine.explanation import Exchange
    from meshlib.engine.live import Live
    from meshlib.transport.grpcio.contracts import RequestMessages


def _bytes(text: str) -> bytes:
    """A header as it was typed."""
    return text.encode("utf-8", "surrogateescape")


GRPC_SCHEMES = {"grpc": "http", "grpcs": "https"}


def explain_url(
    live: Live, now: float, method: str, url: str, headers: Mapping[str, str], certificate: str
) -> Exchange:
    """``certificate``: our SPIFFE ID, "" without a certificate. Raises ``MeshError`` for a URL that cannot be called."""
    scheme, _, rest = url.partition("://")
    if scheme in GRPC_SCHEMES:
        return _explain_grpc(live, now, url, scheme, rest, headers, certificate)
    return _explain_http(live, now, method, url, headers, certificate)


def _explain_grpc(
    live: Live, now: float, url: str, scheme: str, rest: str, headers: Mapping[str, str], certificate: str
) -> Exchange:
    authority, slash, path = rest.partition("/")
    if not authority or not path:
        raise MeshError(
            f"explain needs a full URL such as grpc://ratings:9080/package.Service/Method, not {url_shown(url)!r}"
        )
    metadata = [(name.lower(), value) for name, value in headers.items() if name.lower() != ":authority"]
    told = next((value for name, value in headers.items() if name.lower() == ":authority"), authority)
    call: GrpcRequest[RequestMessages] = GrpcRequest(
        Named(slash + path), b"", GRPC_SCHEMES[scheme], told, authority, metadata
    )
    return explain(live, call, now, certificate)


def _explain_http(
    live: Live, now: float, method: str, url: str, headers: Mapping[str, str], certificate: str
) -> Exchange:
    httpx = usual()
    try:
        request = httpx.Request(method, url, headers=[(_bytes(name), _bytes(value)) for name, value in headers.items()])
        if request.url.scheme in SPOKEN and not request.url.host:
            raise BadUrl("it has no host")
        scheme, dialled = origin_of(request.url)
    except (BadUrl, httpx.InvalidURL) as error:
        raise MeshError(
            f"explain needs a full URL such as http://reviews:9080/reviews/0, not {url_shown(url)!r}: {error}"
        ) from None
    host = request.headers.get("host") or dialled
    written = written_port(url)
    if written and host == dialled and request.url.port is None:
        host = dialled = f"{dialled}:{written}"
    view = PlainRequest(
        request.method,
        scheme,
        host,
        request.url.raw_path.decode("latin-1"),
        {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in request.headers.raw},
        dialled,
    )
    found = explain(live, view, now, certificate)
    if dialled == host and request.url.port is None and written:
        without = live.snapshot.virtual_host(dialled.rpartition(":")[0], scheme)
        if without is not found.virtual_host:
            where = f"{without.host}:{without.port}"
            found.add_details({"url": f"httpx leaves :{written} out of its URLs, and such calls go to {where}"})
    return found
