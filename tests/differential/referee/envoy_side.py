"""The cases through a real Envoy. Its upstream is a second listener of the same Envoy, where a Lua script answers with the
request it saw; so whole batches run at the speed of pipelined HTTP."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, cluster, running
from tests.differential.referee import istiod
from tests.differential.referee.answers import Answer, request_headers, response_headers
from tests.differential.referee.generate import Case, Request, clusters

CONNECTIONS = 32

ECHO = """
function envoy_on_request(handle)
  local lines = {}
  for name, value in pairs(handle:headers()) do
    lines[#lines + 1] = name .. "=" .. value
  end
  local text = table.concat(lines, "\\n")
  text = text:gsub("[^%w=%-_%.:/?&,;]", function(c) return string.format("%%%02X", string.byte(c)) end)
  handle:respond({[":status"] = "200", ["x-echo"] = text, ["x-resp"] = "1", ["access-control-allow-origin"] = "up"}, "")
end
"""


def _manager(name: str, filters: list[Any], routes: Any, **more: Any) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "generate_request_id": False,
            "http_filters": [
                *filters,
                {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}},
            ],
            "route_config": routes,
            **more,
        },
    }


def _listener(port: int, manager: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [manager]}],
    }


def configuration(services: Sequence[Any], listen: int, echo: int, admin: int) -> dict[str, Any]:
    """Envoy's bootstrap: a listener with the virtual hosts of the cases, and the echo behind all clusters."""
    routes = {"virtual_hosts": [istiod.virtual_host(service) for service in services], "validate_clusters": False}
    return bootstrap({listen: routes}, clusters(), echo, admin)


def bootstrap(fronts: dict[int, Any], names: Sequence[str], echo: int, admin: int) -> dict[str, Any]:
    """Envoy's bootstrap: a listener for each of ``fronts`` (port -> its routes), and the echo behind the clusters
    ``names``."""
    filters = [
        {"name": istiod.FAULT, "typed_config": {"@type": f"{TYPES}.http.fault.v3.HTTPFault"}},
        {"name": istiod.CORS, "typed_config": {"@type": f"{TYPES}.http.cors.v3.Cors"}},
    ]
    listeners = [_listener(port, _manager(f"front_{port}", filters, routes)) for port, routes in fronts.items()]
    lua = {
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": f"{TYPES}.http.lua.v3.Lua",
            "default_source_code": {"inline_string": ECHO},
        },
    }
    everything = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": []}]}
    back = _manager(
        "echo",
        [lua],
        everything,
        use_remote_address=True,
        skip_xff_append=True,
        # the echo must see what was sent: nothing is stripped from requests that count as internal
        internal_address_config={"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
    )
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [*listeners, _listener(echo, back)],
            "clusters": [cluster(name, [echo]) for name in names],
        },
    }


@contextlib.contextmanager
def envoy_for(cases: Sequence[Case]) -> Iterator[EnvoySide]:
    """An Envoy that serves these cases."""
    listen, echo, admin = free_port(), free_port(), free_port()
    with running(configuration([case.service for case in cases], listen, echo, admin), admin):
        yield EnvoySide(listen)


class EnvoySide:
    """Asks the Envoy on a port, over ``CONNECTIONS`` connections with one request on each at a time (Envoy closes
    connections whose client pipelines)."""

    def __init__(self, port: int, at: str = "x-referee-cluster") -> None:
        """``at``: the header that says where a request has gone."""
        self._port = port
        self._at = at

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers, in order."""
        answers: list[Answer] = []
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(_Connection(self._port, self._at)) for _ in range(CONNECTIONS)]
            for start in range(0, len(requests), CONNECTIONS):
                batch = requests[start : start + CONNECTIONS]
                pairs = list(zip(connections, batch, strict=False))
                for connection, request in pairs:
                    connection.send(request)
                answers += [connection.receive(request) for connection, request in pairs]
        return answers


class _Connection:
    """One connection, opened again when Envoy has closed it."""

    def __init__(self, port: int, at: str) -> None:
        self._port = port
        self._at = at
        self._socket: socket.socket | None = None
        self._reader: Any = None

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._reader.close()
            self._socket.close()
            self._socket = None

    def send(self, request: Request) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), 10)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reader = self._socket.makefile("rb")
        self._socket.sendall(encode(request))

    def receive(self, request: Request) -> Answer:
        answer, closes = _read(self._reader, request, self._at)
        if closes:
            self.close()
        return answer


def encode(request: Request) -> bytes:
    """The request as HTTP/1.1."""
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {request.authority}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.method in ("POST", "PUT", "PATCH"):
        lines.append("content-length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _read(reader: Any, request: Request, at: str) -> tuple[Answer, bool]:
    """The answer, and whether the connection ends with it."""
    status = int(reader.readline().split()[1])
    headers: list[tuple[str, str]] = []
    while (line := reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("utf-8", "surrogateescape").rstrip("\r\n").partition(":")
        headers.append((name.lower(), value.strip()))
    known = dict(headers)
    length = 0 if request.method == "HEAD" else int(known.get("content-length", "0"))
    body = reader.read(length).decode() if length else ""
    return _answer(status, headers, known, body, at), known.get("connection") == "close"


def _answer(status: int, headers: list[tuple[str, str]], known: dict[str, str], body: str, at: str) -> Answer:
    back = response_headers(headers)
    route = known.get("x-referee-route", "")
    echo = known.get("x-echo")
    if echo is None:
        return Answer(route, status, body=body, response_headers=back)
    seen = [(n, v) for n, _, v in (line.partition("=") for line in unquote(echo, errors="surrogateescape").split("\n"))]
    pseudo = {name: value for name, value in seen if name.startswith(":")}
    return Answer(
        route,
        status,
        known.get(at, ""),
        pseudo[":method"],
        pseudo[":path"],
        pseudo[":authority"],
        request_headers([pair for pair in seen if not pair[0].startswith(":")]),
        "",
        back,
    )
