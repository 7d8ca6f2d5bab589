"""A real Envoy, configured as Istio configures it for CUSTOM, says what an authorizer is told and what its responses do."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import meshlib
from benchmarks.free_ports import free_port
from meshlib.compiler.custom import authorizer_of
from meshlib.compiler.mesh_settings import BodyInCheck, ExtAuthzProvider
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy import ext_authz_grpc
from meshlib.policy.ext_authz import Asked
from tests.differential.envoy_process import TYPES, cluster, running
from tests.support.ads_server import message, pool
from tests.support.authorizers import Asking, Seen, custom, over_grpc, over_http, provider, resources
from tests.support.spiffe import Authority

HTTP2 = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
}
Pairs = list[tuple[str, str]]


class Sent(NamedTuple):
    method: str = "GET"
    target: str = "/a?q=1"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Got(NamedTuple):
    """What came of a request: what the authorizer was told, what the application and the caller got."""

    told: Any
    application: Any
    caller: Any


# -- what is compared -------------------------------------------------------------------------------------------------

COMMON = (("x-user", "mallory"), ("x-tag", "a"), ("cookie", "a=1"), ("authorization", "Bearer t"), ("x-secret", "s"))
REQUESTS = (
    Sent(headers=COMMON),
    Sent("POST", "/a/b?x=%20&y", (*COMMON, ("x-tag", "b")), b"hello"),
    Sent("POST", "/", COMMON, b"hello world, this is long"),
    Sent("HEAD", "/a", (("x-odd", "caf\xe9"), ("x-odd", "\xff"), ("x-a", ""))),
    Sent("DELETE", "/%2e%2e/x;y", (("X-User", " padded "),)),
    Sent("GET", "/public/../admin?a=/../b", COMMON),
)
SAID: tuple[tuple[int, Pairs, bytes], ...] = (
    (200, [], b""),
    (
        200,
        [
            ("x-user", "alice"),
            ("X-Tag", "one"),
            ("x-tag", "two"),
            ("set-cookie", "s=1"),
            ("set-cookie", "t=2"),
            ("x-other", "no"),
            ("x-envoy-auth-headers-to-remove", "x-secret, Cookie"),
            ("content-type", "text/plain"),
        ],
        b"ignored",
    ),
    (401, [("www-authenticate", "Bearer"), ("x-deny", "1"), ("x-other", "2"), ("content-type", "text/html")], b"<no>"),
    (302, [("location", "/login"), ("set-cookie", "a"), ("set-cookie", "b")], b""),
    (403, [], b"plain"),
    (204, [("x-deny", "1")], b""),
    (429, [("retry-after", "3")], b"later"),
    (500, [("x-deny", "1")], b"broken"),
    (503, [], b""),
)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"request_headers": ("x-case",)},
    "lists": {
        "request_headers": ("x-case", "X-Tag", "*-odd", "coo*", "x-user"),
        "additional_headers": (("x-key", "k"), ("x-user", "mesh")),
        "upstream_headers_on_allow": ("x-user", "x-tag"),
        "downstream_headers_on_allow": ("set-cookie",),
        "downstream_headers_on_deny": ("x-deny",),
        "path_prefix": "/check",
    },
    "body": {"request_headers": ("x-case",), "body": BodyInCheck(10), "status_on_error": 503},
    "partial": {"request_headers": ("x-case",), "body": BodyInCheck(10, True), "fail_open": True},
}


def header(key: str, value: str, **how: Any) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, **how}


GRPC_SAID: tuple[dict[str, Any], ...] = (
    {},
    {
        "ok_response": {
            "headers": [
                header("x-user", "alice"),
                header("X-Tag", "z", append=True),
                header("x-set", "1", append=False),
            ],
            "headers_to_remove": ["X-Secret", "host", ":path"],
            "response_headers_to_add": [header("x-by", "a"), header("x-app", "mesh", append=False)],
            "query_parameters_to_set": [{"key": "q", "value": "2"}],
            "query_parameters_to_remove": ["x"],
        }
    },
    {"status": {"code": 7}},
    {
        "status": {"code": 16},
        "denied_response": {
            "status": {"code": 401},
            "headers": [header("www-authenticate", "B"), header("set-cookie", "a"), header("set-cookie", "b")],
            "body": "who?",
        },
    },
    {"status": {"code": 7}, "ok_response": {"headers": [header("x-user", "alice")]}},
)
GRPC_SETTINGS: dict[str, dict[str, Any]] = {
    "grpc": {},
    "grpc body": {"body": BodyInCheck(10)},
    "grpc bytes": {"body": BodyInCheck(10, True, True)},
}

# -- both sides -------------------------------------------------------------------------------------------------------

FROM_PROXIES = frozenset((
    "x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-envoy-expected-rq-timeout-ms", "x-envoy-internal",
    "x-envoy-attempt-count", "traceparent", "server", "date", "x-envoy-upstream-service-time", "connection",
))  # fmt: skip
"""Where a hop writes what it is itself."""


def without_hops(headers: Any) -> Pairs:
    return sorted((name.lower(), value) for name, value in headers if name.lower() not in FROM_PROXIES)


def told_http(seen: Seen) -> Any:
    return seen.method, seen.target, without_hops(seen.headers.items()), seen.body


def told_grpc(asked: Any) -> Any:
    http = asked.attributes.request.http
    headers = {name: value for name, value in http.headers.items() if name not in FROM_PROXIES}
    return (
        (http.method, http.path, http.host, http.scheme, http.protocol),
        headers,
        http.body,
        http.raw_body,
        asked.attributes.source.address.socket_address.address,
        asked.attributes.destination.address.socket_address.port_value,
    )


@contextlib.contextmanager
def application() -> Iterator[tuple[int, list[Any]]]:
    """What it got; it says 200, hello."""
    seen: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.append((self.path, without_hops(self.headers.items()), body))
            self.send_response(200)
            self.send_header("x-app", "1")
            self.send_header("content-length", "5")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(b"hello")

        do_GET = do_POST = do_HEAD = do_DELETE = do_any

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)


def matcher(patterns: tuple[str, ...]) -> Any:
    """As Istio's generator writes it."""
    found = []
    for pattern in patterns:
        kind = (
            {"suffix": pattern[1:]}
            if pattern.startswith("*")
            else {"prefix": pattern[:-1]}
            if pattern.endswith("*")
            else {"exact": pattern}
        )
        found.append({**kind, "ignore_case": True})
    return {"patterns": found}


def filter_of(made: ExtAuthzProvider) -> dict[str, Any]:
    config: dict[str, Any] = {
        "@type": f"{TYPES}.http.ext_authz.v3.ExtAuthz",
        "failure_mode_allow": made.fail_open,
        "transport_api_version": "V3",
        "status_on_error": {"code": made.status_on_error},
    }
    if made.body is not None:
        config["with_request_body"] = {
            "max_request_bytes": made.body.max_bytes,
            "allow_partial_message": made.body.allow_partial,
            "pack_as_bytes": made.body.as_bytes,
        }
    if made.protocol == "grpc":
        config["grpc_service"] = {"envoy_grpc": {"cluster_name": "grpc", "authority": "opa"}, "timeout": "5s"}
        return config
    service: dict[str, Any] = {
        "server_uri": {"uri": "http://opa", "cluster": "http", "timeout": "5s"},
        "path_prefix": made.path_prefix,
    }
    if made.additional_headers:
        adding = [{"key": key, "value": value} for key, value in made.additional_headers]
        service["authorization_request"] = {"headers_to_add": adding}
    lists = {
        "allowed_upstream_headers": made.upstream_headers_on_allow,
        "allowed_client_headers": made.downstream_headers_on_deny,
        "allowed_client_headers_on_success": made.downstream_headers_on_allow,
    }
    if any(lists.values()):
        service["authorization_response"] = {name: matcher(found) for name, found in lists.items() if found}
    config["http_service"] = service
    config["allowed_headers"] = matcher(made.request_headers)
    return config


def listener(port: int, made: ExtAuthzProvider) -> dict[str, Any]:
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "normalize_path": True,
        "delayed_close_timeout": "0s",
        "generate_request_id": False,
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": filter_of(made)},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}},
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]}
            ]
        },
    }
    return {
        "name": f"in_{port}",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def through_envoy(port: int, sent: Sent, case: int) -> Any:
    lines = [f"{sent.method} {sent.target} HTTP/1.1", "host: me:80", f"x-case: {case}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in sent.headers]
    if sent.body:
        lines.append(f"content-length: {len(sent.body)}")
    raw = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + sent.body)
        while piece := connection.recv(65536):
            raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *rest = head.decode("latin-1").split("\r\n")
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in rest)]
    if ("transfer-encoding", "chunked") in pairs:
        pairs.remove(("transfer-encoding", "chunked"))
        body = body.split(b"\r\n")[1] if body else b""
    return int(status.split(" ")[1]), pairs, body


class Body:
    def __init__(self, body: bytes) -> None:
        self.body = body

    def peek(self, limit: int) -> tuple[bytes, bool]:
        return self.body[:limit], len(self.body) < limit


def through_mesh(asking: Asking, port: int, sent: Sent, case: int) -> tuple[Any, Any]:
    """(what the application gets, what the caller gets)."""
    path, _, query = sent.target.partition("?")
    said = [("host", "me:80"), ("x-case", str(case)), *((name, value.strip()) for name, value in sent.headers)]
    if sent.body:
        said.append(("content-length", str(len(sent.body))))
    raw = [(name.encode(), value.encode("latin-1")) for name, value in said]
    request = InboundRequest(
        sent.method,
        path,
        raw,
        authority="me:80",
        query=query,
        peer="127.0.0.1:4711",
        local_ip="127.0.0.1",
        port=port,
    )
    request.body_source = Body(sent.body)
    call = asking.serve(request)
    refusal = call.refusal
    if refusal is not None:
        pairs = request.response_headers(refusal.http_headers())
        body = b"" if sent.method == "HEAD" else refusal.content
        return None, (refusal.status, [(n.decode(), v.decode("latin-1")) for n, v in pairs], body)
    if request.for_application is not None:
        raw = request.for_application.applied(raw)
    target = sent.target if request.for_application is None else request.for_application.target or sent.target
    got = (
        target if isinstance(target, str) else target.decode("latin-1"),
        without_hops((n.decode(), v.decode("latin-1")) for n, v in raw),
        sent.body,
    )
    answer = request.response_headers([(b"x-app", b"1"), (b"content-length", b"5")])
    body = b"" if sent.method == "HEAD" else b"hello"
    return got, (200, [(n.decode(), v.decode("latin-1")) for n, v in answer], body)


def caller(got: Any, method: str) -> Any:
    """A response without a body need not say so, and to HEAD length and type are nobody's."""
    status, headers, body = got
    empty = ("content-length", "content-type") if method == "HEAD" else ()
    kept = [(n, v) for n, v in without_hops(headers) if n not in empty and (n, v) != ("content-length", "0")]
    return status, kept, body


@pytest.mark.differential
def test_an_authorizer_is_told_and_obeyed_as_by_envoy() -> None:
    from google.protobuf import json_format

    def decide(asked: Seen) -> Any:
        return SAID[int(asked.headers["x-case"])]

    def check(asked: Any) -> Any:
        case = int(asked.attributes.request.http.headers["x-case"])
        made = message("envoy.service.auth.v3.CheckResponse")()
        return json_format.ParseDict(GRPC_SAID[case], made, descriptor_pool=pool())

    providers = {name: provider(timeout=5.0, **how) for name, how in SETTINGS.items()}
    providers |= {name: provider("grpc", timeout=5.0, **how) for name, how in GRPC_SETTINGS.items()}
    with (
        over_http(decide) as (http_port, http_seen),
        over_grpc(check) as (grpc_port, grpc_seen),
        application() as (
            app_port,
            app_seen,
        ),
    ):
        admin, ports = free_port(), {name: free_port() for name in providers}
        config = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "static_resources": {
                "listeners": [listener(ports[name], made) for name, made in providers.items()],
                "clusters": [
                    cluster("http", [http_port]),
                    cluster("grpc", [grpc_port], **HTTP2),
                    cluster("app", [app_port]),
                ],
            },
        }
        different: list[Any] = []
        asked = 0
        with running(config, admin):
            for name, made in providers.items():
                grpc = made.protocol == "grpc"
                there = resources(grpc_port, "GRPC") if grpc else resources(http_port)
                seen: list[Any] = grpc_seen if grpc else http_seen
                told = told_grpc if grpc else told_http
                with meshlib.Mesh.from_resources(there) as mesh:
                    asking = Asking(mesh, custom(made), "threads")
                    for case in range(len(GRPC_SAID if grpc else SAID)):
                        for sent in REQUESTS:
                            asked += 1
                            del seen[:], app_seen[:]
                            envoy = caller(through_envoy(ports[name], sent, case), sent.method)
                            wanted = Got([told(each) for each in seen], app_seen[0] if app_seen else None, envoy)
                            del seen[:]
                            got, response = through_mesh(asking, ports[name], sent, case)
                            ours = Got([told(each) for each in seen], got, caller(response, sent.method))
                            different += [(name, case, sent, *d) for d in differences(wanted, ours, sent)]
    assert asked == len(REQUESTS) * (len(SETTINGS) * len(SAID) + len(GRPC_SETTINGS) * len(GRPC_SAID))
    assert different == []


def _sorted_query(target: str) -> Any:
    """Envoy sorts the parameters when it changes one, and writes ``y`` as ``y=``; here they stay as they are."""
    path, _, query = target.partition("?")
    return path, sorted(piece if "=" in piece else f"{piece}=" for piece in query.split("&"))


def differences(envoy: Got, ours: Got, sent: Sent) -> list[Any]:
    """Stricter here: of a path that is not normalized the application gets what was sent, so the authorizer is asked about
    that, too, once it lets the normalized one in."""
    envoy, ours = (
        Got(each.told, each.application and (_sorted_query(each.application[0]), *each.application[1:]), each.caller)
        for each in (envoy, ours)
    )
    if "/../" in sent.target or "%2e" in sent.target:
        ours = Got(ours.told[:1], ours.application and envoy.application, ours.caller)
    return [(part, a, b) for part, a, b in zip(Got._fields, envoy, ours, strict=True) if a != b]


CALLER, SERVER = "spiffe://td.test/ns/web/sa/front", "spiffe://td.test/ns/shop/sa/cart"


@pytest.mark.differential
def test_over_mtls_an_authorizer_over_grpc_is_told_who_both_ends_are(tmp_path: Path) -> None:
    """By the URIs of their certificates: our principal and our own identity are written in the same fields."""
    authority, made = Authority(), provider("grpc", timeout=5.0)
    (tmp_path / "authority.pem").write_bytes(authority.pem)
    for name, identity in (("server", SERVER), ("caller", CALLER)):
        key, certificate = authority.issue(identity)
        (tmp_path / f"{name}.pem").write_bytes(certificate)
        (tmp_path / f"{name}.key").write_bytes(key)
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.check_hostname = False
    context.load_cert_chain(tmp_path / "caller.pem", tmp_path / "caller.key")
    tls = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(tmp_path / "server.pem")},
                        "private_key": {"filename": str(tmp_path / "server.key")},
                    }
                ],
                "validation_context": {"trusted_ca": {"filename": str(tmp_path / "authority.pem")}},
            },
        },
    }
    with (
        over_grpc(lambda asked: message("envoy.service.auth.v3.CheckResponse")()) as (grpc_port, seen),
        application() as (app_port, _),
    ):
        admin, port = free_port(), free_port()
        listening = listener(port, made)
        listening["filter_chains"][0]["transport_socket"] = tls
        config = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "static_resources": {
                "listeners": [listening],
                "clusters": [cluster("grpc", [grpc_port], **HTTP2), cluster("app", [app_port])],
            },
        }
        with running(config, admin):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
                with context.wrap_socket(plain) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\nhost: me\r\nconnection: close\r\n\r\n")
                    with contextlib.suppress(ConnectionError):
                        while connection.recv(65536):
                            pass
    ((envoys, ours),) = [
        (
            told.attributes,
            message("envoy.service.auth.v3.CheckRequest")()
            .FromString(
                ext_authz_grpc.request(
                    authorizer_of(made), Asked("GET", "/", "me", {}, "https", principal=CALLER, own=SERVER)
                )
            )
            .attributes,
        )
        for told in seen
    ]
    for end in ("source", "destination"):
        assert getattr(ours, end).principal == getattr(envoys, end).principal, end
    assert envoys.source.principal == CALLER
    assert envoys.request.http.scheme == ours.request.http.scheme == "https"
