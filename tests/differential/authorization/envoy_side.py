"""The cases through a real Envoy: a sidecar's listener (TLS with a client's certificate, or plain text, on one port) for
each path normalization, with the RBAC filters that istiod would give. PROXY protocol says where a connection came to, the
loopback address that it is bound to where it came from, and a header carries the claims that Envoy's JWT filter would have
verified."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from benchmarks.free_ports import free_port
from tests.differential.authorization import istiod
from tests.differential.authorization.cases import NORMALIZATIONS, Caller, Case, Config, Decision, Request
from tests.differential.envoy_process import TYPES, running
from tests.support.spiffe import Authority

CASE, CLAIMS, WHY = "x-referee-case", "x-referee-claims", "x-referee-why"
FRAGMENTS_ARE_CUT = {"envoy.reloadable_features.http_reject_path_with_fragment": False}
"""As in Istio's bootstrap: Envoy by itself refuses them."""
FILTERS = {"AUDIT": "audit", "DENY": "deny", "ALLOW": "allow"}


def bootstrap(cases: Sequence[Case], ports: dict[str, int], admin: int, folder: Path) -> Config:
    """Envoy's configuration; ``folder`` holds the server's key and certificate and the authority of clients."""
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "layered_runtime": {"layers": [{"name": "istio", "static_layer": FRAGMENTS_ARE_CUT}]},
        "static_resources": {
            "listeners": [
                _listener(port, _manager([c for c in cases if c.normalization == normalization], normalization), folder)
                for normalization, port in ports.items()
            ]
        },
    }


def _listener(port: int, manager: Config, folder: Path) -> Config:
    tls = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(folder / "server.pem")},
                        "private_key": {"filename": str(folder / "server.key")},
                    }
                ],
                "validation_context": {"trusted_ca": {"filename": str(folder / "authority.pem")}},
            },
        },
    }
    filters = [manager]
    return {
        "name": f"inbound_{port}",
        "address": {"socket_address": {"address": "::", "port_value": port, "ipv4_compat": True}},
        "listener_filters": [
            _typed("envoy.filters.listener.proxy_protocol", "listener.proxy_protocol.v3.ProxyProtocol"),
            _typed("envoy.filters.listener.tls_inspector", "listener.tls_inspector.v3.TlsInspector"),
        ],
        "filter_chains": [
            {"filter_chain_match": {"transport_protocol": "tls"}, "transport_socket": tls, "filters": filters},
            {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": filters},
        ],
    }


def _typed(name: str, kind: str, **config: Any) -> Config:
    return {"name": name, "typed_config": {"@type": f"{TYPES}.{kind}", **config}}


def _manager(cases: Sequence[Case], normalization: str) -> Config:
    """As istiod writes it for the inbound side: the rightmost address of x-forwarded-for is believed."""
    more: Config = {"normalize_path": normalization != "NONE"}
    if normalization.endswith("MERGE_SLASHES"):
        more["merge_slashes"] = True
    if normalization == "DECODE_AND_MERGE_SLASHES":
        more["path_with_escaped_slashes_action"] = "UNESCAPE_AND_FORWARD"
    claims = {
        "header": CLAIMS,
        "on_header_present": {
            "metadata_namespace": "envoy.filters.http.jwt_authn",
            "key": "payload",
            "type": "PROTOBUF_VALUE",
            "encode": "BASE64",
        },
        "remove": True,
    }
    return _typed(
        "envoy.filters.network.http_connection_manager",
        "network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="inbound",
        use_remote_address=False,
        generate_request_id=False,
        http_filters=[
            _typed(
                "envoy.filters.http.header_to_metadata",
                "http.header_to_metadata.v3.Config",
                request_rules=[claims],
            ),
            *(_typed(name, "http.rbac.v3.RBAC") for name in FILTERS.values()),
            _typed("envoy.filters.http.router", "http.router.v3.Router"),
        ],
        local_reply_config={
            "mappers": [
                {
                    "filter": {
                        "status_code_filter": {
                            "comparison": {"op": "EQ", "value": {"default_value": 403, "runtime_key": "none"}}
                        }
                    },
                    "headers_to_add": [{"header": {"key": WHY, "value": "%RESPONSE_CODE_DETAILS%"}}],
                }
            ]
        },
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_route(c) for c in cases]}]},
        **more,
    )


def _route(case: Case) -> Config:
    filters = {
        FILTERS[action]: {
            "@type": f"{istiod.RBAC}.RBACPerRoute",
            "rbac": {k: v for k, v in made.items() if k != "@type"},
        }
        for action, made in istiod.rbac(case).items()
    }
    return {
        "match": {"prefix": "/", "headers": [{"name": CASE, "string_match": {"exact": str(case.number)}}]},
        "direct_response": {"status": 200},
        "typed_per_filter_config": filters,
    }


@contextlib.contextmanager
def envoy_for(cases: Sequence[Case]) -> Iterator[EnvoySide]:
    """An Envoy that serves these cases."""
    admin, authority = free_port(), Authority()
    ports = {normalization: free_port() for normalization in NORMALIZATIONS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key, certificate = authority.issue("127.0.0.1")
        (folder / "server.key").write_bytes(key)
        (folder / "server.pem").write_bytes(certificate)
        (folder / "authority.pem").write_bytes(authority.pem)
        with running(bootstrap(cases, ports, admin, folder), admin), EnvoySide(ports, authority, folder) as side:
            yield side


class EnvoySide:
    """Asks that Envoy: a connection for each caller, one request on each at a time."""

    def __init__(self, ports: dict[str, int], authority: Authority, folder: Path) -> None:
        self._ports = ports
        self._authority = authority
        self._folder = folder
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._connections: dict[tuple[int, Caller], _Connection] = {}

    def __enter__(self) -> EnvoySide:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def ask(self, cases: Sequence[Case]) -> list[Decision]:
        """What Envoy decides of all requests of the cases, in order."""
        asked = [(case, request) for case in cases for request in case.requests]
        waiting: dict[_Connection, list[int]] = {}
        for place, (case, request) in enumerate(asked):
            waiting.setdefault(self._connection(case, request.caller), []).append(place)
        found: dict[int, Decision] = {}
        while waiting:
            sent = [(connection, places.pop()) for connection, places in waiting.items()]
            for connection, place in sent:
                connection.send(encode(*asked[place]))
            for connection, place in sent:
                found[place] = connection.receive(asked[place][1])
            waiting = {connection: places for connection, places in waiting.items() if places}
        return [found[place] for place in range(len(asked))]

    def _connection(self, case: Case, caller: Caller) -> _Connection:
        port = self._ports[case.normalization]
        found = self._connections.get((port, caller))
        if found is None:
            context = self._context(caller.principal) if caller.secure else None
            found = self._connections[port, caller] = _Connection(port, caller, context)
        return found

    def _context(self, principal: str) -> ssl.SSLContext:
        found = self._contexts.get(principal)
        if found is None:
            key, certificate = self._authority.issue(f"spiffe://{principal}")
            file = self._folder / f"client-{len(self._contexts)}.pem"
            file.write_bytes(key + certificate)
            found = self._contexts[principal] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            found.check_hostname = False
            found.load_verify_locations(cadata=self._authority.pem.decode())
            found.load_cert_chain(file)
        return found


class _Connection:
    """One connection of a caller, opened when it is first used and again when Envoy has closed it."""

    def __init__(self, port: int, caller: Caller, context: ssl.SSLContext | None) -> None:
        self._port = port
        self._caller = caller
        self._context = context
        self._socket: socket.socket | None = None
        self._reader: Any = None

    def close(self) -> None:
        if self._socket is not None:
            self._reader.close()
            self._socket.close()
            self._socket = None

    def send(self, data: bytes) -> None:
        if self._socket is None:
            self._socket = self._opened()
            self._reader = self._socket.makefile("rb")
        self._socket.sendall(data)

    def _opened(self) -> socket.socket:
        caller = self._caller
        version = ipaddress.ip_address(caller.source_ip).version
        here = "127.0.0.1" if version == 4 else "::1"
        plain = socket.create_connection((here, self._port), 30, (caller.source_ip, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ends = f"{caller.source_ip} {caller.destination_ip} 4711 {caller.port}"
        plain.sendall(f"PROXY TCP{version} {ends}\r\n".encode())
        if self._context is None:
            return plain
        return self._context.wrap_socket(plain, server_hostname=caller.sni or None)

    def receive(self, request: Request) -> Decision:
        head = self._reader.readline().split()
        assert len(head) > 1, f"Envoy closed the connection instead of a response to:\n{request}"
        status = int(head[1])
        known: dict[str, str] = {}
        while (line := self._reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            known[name.lower()] = value.strip()
        if request.method != "HEAD":
            self._reader.read(int(known.get("content-length", "0")))
        if known.get("connection") == "close":
            self.close()
        return Decision(status, _rule(known.get(WHY, "")))


def _rule(why: str) -> str:
    """``rbac_access_denied_matched_policy[ns[x]-policy[y]-rule[0]]`` as "x/y[0]"."""
    inner = why.removeprefix("rbac_access_denied_matched_policy[").removesuffix("]")
    if inner in ("", "none"):
        return ""
    space, _, rest = inner.removeprefix("ns[").partition("]-policy[")
    name, _, number = rest.partition("]-rule[")
    return f"{space}/{name}[{number.removesuffix(']')}]"


def encode(case: Case, request: Request) -> bytes:
    """The request as HTTP/1.1."""
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {request.authority}", f"{CASE}: {case.number}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.claims is not None:
        lines.append(f"{CLAIMS}: {_value(normalized(request.claims))}")
    if request.method in ("POST", "PUT", "PATCH"):
        lines.append("content-length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def normalized(claims: Any) -> Config:
    """As Istio's JWT filter notes them: ``scope`` and ``permission`` are lists of words."""
    return {
        name: [word for word in value.split(" ") if word]
        if name in ("scope", "permission") and isinstance(value, str)
        else value
        for name, value in claims.items()
    }


def _value(claims: Config) -> str:
    return base64.b64encode(ParseDict(claims, Value()).SerializeToString()).decode()
