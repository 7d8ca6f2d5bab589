"""The same requests through a real Envoy with the filter that istiod would give it, and through the doors of a mesh."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import meshlib
from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, running
from tests.differential.tokens.generate import Case, Request
from tests.differential.tokens.istiod import JWT_AUTHN, jwt_authn
from tests.support.asgi import ask, http_scope
from tests.support.token_bench import request_authentication

CASE = "x-referee-case"
SEEN = ("authorization", "x-jwt", "cookie", "x-payload", "x-sub", "x-role", "x-n", "x-yes", "x-list", "x-half")
"""Headers of the request that both sides tell the first value of."""
ABSENT = "-"


@dataclass(frozen=True)
class Decision:
    """``claims``: what policies would see, None without token; ``seen``: what the application would see."""

    status: int
    body: str = ""
    challenge: str = ""
    claims: Any = None
    seen: tuple[str, ...] = ()
    target: str = ""


# -- Envoy ----------------------------------------------------------------------------------------------------------------


def bootstrap(cases: list[Case], port: int, admin: int) -> dict[str, Any]:
    told = {
        "x-told-claims": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload)%",
        "x-told-target": "%REQ(:PATH)%",
        **{f"x-told-{name}": f"%REQ({name})%" for name in SEEN},
    }
    routes = [
        {
            "match": {"prefix": "/", "headers": [{"name": CASE, "string_match": {"exact": str(number)}}]},
            "direct_response": {"status": 200},
            "response_headers_to_add": [
                {"header": {"key": k, "value": v}, "keep_empty_value": True} for k, v in told.items()
            ],
            "typed_per_filter_config": {
                "jwt": {"@type": f"{JWT_AUTHN}.PerRouteConfig", "requirement_name": str(number)}
            },
        }
        for number in range(len(cases))
    ]
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inbound",
        "normalize_path": True,
        "http_filters": [
            {"name": "jwt", "typed_config": jwt_authn([case.rules for case in cases])},
            {"name": "router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"listeners": [{"address": address, "filter_chains": [{"filters": filters}]}]},
    }


@contextlib.contextmanager
def envoy_for(cases: list[Case]) -> Iterator[EnvoySide]:
    port, admin = free_port(), free_port()
    with running(bootstrap(cases, port, admin), admin):
        side = EnvoySide(port)
        yield side
        side.connection.close()


class EnvoySide:
    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, number: int, request: Request) -> Decision:
        connection = self.connection
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in (("host", "shop"), (CASE, str(number)), *request.headers):
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read().decode()
        if response.status != 200:
            return Decision(response.status, body, response.headers.get("www-authenticate", ""))
        told = response.headers
        claims = told["x-told-claims"]
        return Decision(
            200,
            claims=None if claims in ("", ABSENT) else json.loads(claims, parse_int=float),
            seen=tuple(told.get(f"x-told-{name}") or ABSENT for name in SEEN),
            target=told["x-told-target"],
        )


# -- ours -----------------------------------------------------------------------------------------------------------------


class OurSide:
    """One mesh a case; requests by ASGI and WSGI in turn, which must not differ."""

    def __init__(self, case: Case) -> None:
        self._mesh = meshlib.Mesh.from_resources([request_authentication(*case.rules)])
        self._asgi = meshlib.MeshASGIMiddleware(self._asgi_app, self._mesh)
        self._wsgi = meshlib.MeshWSGIMiddleware(self._wsgi_app, self._mesh)
        self._seen: Decision | None = None

    def close(self) -> None:
        self._mesh.close()

    def _note(self, seen: dict[str, str], target: str) -> None:
        inbound = self._mesh.inbound()
        assert inbound is not None
        claims = None if inbound.claims is None else json.loads(json.dumps(inbound.claims), parse_int=float)
        self._seen = Decision(200, claims=claims, seen=tuple(seen.get(name) or ABSENT for name in SEEN), target=target)

    async def _asgi_app(self, scope: Any, _receive: Any, send: Any) -> None:
        seen: dict[str, str] = {}
        for name, value in scope["headers"]:
            seen.setdefault(name.decode().lower(), value.decode("latin-1"))
        query = scope["query_string"].decode("latin-1")
        self._note(seen, f"{scope['path']}?{query}" if query else scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    def _wsgi_app(self, environ: Any, start_response: Any) -> list[bytes]:
        seen = {k[5:].lower().replace("_", "-"): v for k, v in environ.items() if k.startswith("HTTP_")}
        query = environ["QUERY_STRING"]
        self._note(seen, f"{environ['PATH_INFO']}?{query}" if query else environ["PATH_INFO"])
        start_response("200 OK", [])
        return []

    def by_asgi(self, request: Request) -> Decision:
        headers = [(name.lower().encode(), value.strip(" ").encode("latin-1")) for name, value in request.headers]
        scope = http_scope(request.target, (b"host", b"shop"), *headers, method=request.method)
        client = asyncio.run(ask(self._asgi, scope))
        return self._decision(client.status, client.body, client.headers.get(b"www-authenticate", b""))

    def by_wsgi(self, request: Request) -> Decision:
        """As gunicorn has it: lines of a header are joined by commas."""
        query = request.target.partition("?")[2]
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method, "PATH_INFO": request.path, "QUERY_STRING": query, "RAW_URI": request.target,
            "SCRIPT_NAME": "", "SERVER_NAME": "shop", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "10.0.0.1", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(),
            "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
            "HTTP_HOST": "shop",
        }  # fmt: skip
        for name, value in request.headers:
            key = f"HTTP_{name.upper().replace('-', '_')}"
            environ[key] = f"{environ[key]},{value.strip(' ')}" if key in environ else value.strip(" ")
        got: list[Any] = []
        made = self._wsgi(environ, lambda status, headers, _exc=None: got.append((status, dict(headers))))
        body = b"".join(made)
        if hasattr(made, "close"):
            made.close()
        headers = {name.lower(): value for name, value in got[0][1].items()}
        return self._decision(int(got[0][0][:3]), body, headers.get("www-authenticate", "").encode("latin-1"))

    def _decision(self, status: int, body: bytes, challenge: bytes) -> Decision:
        if status != 200:
            return Decision(status, body.decode(), challenge.decode("latin-1"))
        assert self._seen is not None
        return self._seen
