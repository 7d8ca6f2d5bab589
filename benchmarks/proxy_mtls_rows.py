"""mTLS at both sides of a sidecar: outbound to an nginx that asks for certificates, inbound in front of one that does not.
Kept connections, and a full handshake for each request; no session is resumed, as no caller tries: both proxies give tickets,
Envoy as Istio configures it.

wrk has no client certificate: the callers of the inbound side are sockets of this process, on the other core.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import synthetic
from benchmarks.certificates import CLIENT, SERVER, write_certificates
from benchmarks.measure import Row
from benchmarks.proxy_backends import BODY, nginx
from benchmarks.proxy_envoy import Scene, inbound, outbound, typed
from benchmarks.proxy_http1_rows import counted, see_forwarding
from benchmarks.proxy_load import AUTHORITY, FEW, Load, wrk
from benchmarks.proxy_processes import NotMeasured, Proxy, envoy_proxy, meshlib_proxy, on_the_other_core
from benchmarks.proxy_rounds import Figure, Taken, not_measured, rows, take_turns
from meshlib.clock import SystemClock
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket

KEPT, NEW = 64, 16
"""Connections of callers: whose upstream connections are kept, and that need new ones."""
INBOUND_KEPT = 16
HANDSHAKES = 0.5
"""Of requests at least; connections that are kept from before serve one more each, which the first rounds meet."""
SECONDS = 30.0


def _requests(taken: Taken) -> float:
    return 1e6 / taken.cpu


def _figures(side: str) -> tuple[Figure, Figure, Figure]:
    what = "requests a second of CPU"
    return (
        Figure(f"mTLS {side}, kept connections, {what}", _requests, "requests", 1.0, None, False),
        Figure(f"mTLS {side}, a full handshake a request, {what}", _requests, "requests", 0.5, 0.7, False),
        Figure(f"mTLS {side}, RSS with a full handshake a request", lambda taken: taken.memory, "MB", None),
    )


def mtls(quick: bool) -> list[Row]:
    """Both sides."""
    made = []
    for side, measure in (("outbound", _outbound), ("inbound", _inbound)):
        try:
            with on_the_other_core(), tempfile.TemporaryDirectory(prefix="meshlib-mtls-") as name:
                folder = Path(name)
                write_certificates(folder)
                made += measure(folder, quick)
        except (NotMeasured, OSError) as why:
            made.append(not_measured(f"mTLS {side}", why))
    return made


# -- outbound ------------------------------------------------------------------------------------------------------------


def _outbound(folder: Path, quick: bool) -> list[Row]:
    rounds, seconds = (3, 1) if quick else (7, 3)
    files = {name: folder / f"{name}.pem" for name in ("cert", "key", "bundle")}
    tls = [f"ssl_certificate {files['cert']};", f"ssl_certificate_key {files['key']};"]
    tls += [f"ssl_client_certificate {files['bundle']};", "ssl_verify_client on;"]
    tls += ["ssl_session_cache off;", "ssl_session_tickets off;", "ssl_protocols TLSv1.2 TLSv1.3;"]
    kept, new, memory = _figures("outbound")
    with nginx(tls) as backend, contextlib.ExitStack() as stack:
        scene = Scene(upstream_tls=_upstream_context(folder))
        options = [f"--{name}={folder / f'c-{name}.pem'}" for name in ("cert", "key")]
        options.append(f"--bundle={files['bundle']}")
        proxies = [
            stack.enter_context(envoy_proxy(folder, lambda port: outbound(port, backend.port, scene))),
            stack.enter_context(meshlib_proxy(folder, _mutual(backend.port), *options)),
        ]
        for proxy in proxies:
            see_forwarding(proxy)

        def keep(proxy: Proxy, number: int) -> Load:
            return counted(backend, KEPT, lambda: wrk(folder, proxy.port, FEW, KEPT, seconds, number))

        def shake_hands(proxy: Proxy, number: int) -> Load:
            accepted, _ = backend.counts()
            load = wrk(folder, proxy.port, FEW, NEW, seconds, number, "/once/0")
            shaken = backend.counts()[0] - accepted - 1
            if shaken < HANDSHAKES * load.requests:
                raise NotMeasured(
                    f"{proxy.name} made {shaken} connections for {load.requests} requests that need one each"
                )
            return load

        made = rows([kept], take_turns(proxies, rounds, keep))
        return made + rows([new, memory], take_turns(proxies, rounds, shake_hands))


def _mutual(port: int) -> list[dict[str, Any]]:
    resources = synthetic.reviews(port)
    for each in resources:
        if each["kind"] == "Pod":
            each["spec"]["serviceAccountName"] = SERVER.rpartition("/")[2]
        elif each["kind"] == "DestinationRule":
            each["spec"]["trafficPolicy"]["tls"] = {"mode": "ISTIO_MUTUAL"}
    return resources


def _upstream_context(folder: Path) -> dict[str, Any]:
    return typed(
        "transport_sockets.tls.v3",
        "UpstreamTlsContext",
        sni="server.default.svc.cluster.local",
        max_session_keys=0,
        common_tls_context=_common(folder, "c-", SERVER),
    )


def _common(folder: Path, prefix: str, peer: str) -> dict[str, Any]:
    certificate = {"certificate_chain": f"{prefix}cert.pem", "private_key": f"{prefix}key.pem"}
    named = [{"san_type": "URI", "matcher": {"exact": peer}}]
    return {
        "alpn_protocols": ["http/1.1"],
        "tls_certificates": [{name: {"filename": str(folder / file)} for name, file in certificate.items()}],
        "validation_context": {
            "trusted_ca": {"filename": str(folder / "bundle.pem")},
            "match_typed_subject_alt_names": named,
        },
    }


# -- inbound -------------------------------------------------------------------------------------------------------------

_STRICT = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "default", "namespace": "default"},
    "spec": {"mtls": {"mode": "STRICT"}},
}
_GOOD = b"HTTP/1.1 200 "
_REQUEST = f"GET /reviews/0 HTTP/1.1\r\nhost: {AUTHORITY}\r\nx-request-id: %08x-16cd-43dd-8448-%012x\r\n\r\n"


def _inbound(folder: Path, quick: bool) -> list[Row]:
    rounds, kept_requests, new_requests = (3, 960, 100) if quick else (7, 8_000, 500)
    downstream = typed(
        "transport_sockets.tls.v3",
        "DownstreamTlsContext",
        require_client_certificate=True,
        common_tls_context=_common(folder, "", CLIENT),
    )
    options = [f"--{name}={folder / f'{name}.pem'}" for name in ("cert", "key", "bundle")]
    kept, new, memory = _figures("inbound")
    with nginx() as backend, contextlib.ExitStack() as stack:
        scene, application = Scene(downstream_tls=downstream), f"--app=127.0.0.1:{backend.port}"
        proxies = [
            stack.enter_context(envoy_proxy(folder, lambda port: inbound(port, backend.port, scene))),
            stack.enter_context(meshlib_proxy(folder, [_STRICT], application, *options, way="--inbound")),
        ]
        context = callers_context(folder)

        def connected(proxy: Proxy) -> list[TlsSocket]:
            return [
                stack.enter_context(contextlib.closing(_handshaken(context, proxy.port))) for _ in range(INBOUND_KEPT)
            ]

        # before the rounds: a handshake costs as much as 30 requests and more, and has a row of its own
        connections = {proxy.name: connected(proxy) for proxy in proxies}

        def keep(proxy: Proxy, number: int) -> Load:
            return counted(backend, INBOUND_KEPT, lambda: _ask(connections[proxy.name], kept_requests, number))

        def shake_hands(proxy: Proxy, number: int) -> Load:
            began = time.monotonic()
            for each in range(new_requests):
                with contextlib.closing(_handshaken(context, proxy.port)) as connection:
                    _ask([connection], 1, number * new_requests + each)
            return Load(new_requests, new_requests / (time.monotonic() - began))

        made = rows([kept], take_turns(proxies, rounds, keep))
        return made + rows([new, memory], take_turns(proxies, rounds, shake_hands))


def callers_context(folder: Path) -> ssl.SSLContext:
    """Of the callers of an inbound side. They show their leaf alone, as Istio's sidecars do: to what they trust OpenSSL would
    look for a root to show with it, so they trust nothing and believe their server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(folder / "c-cert.pem", folder / "c-key.pem")
    return context


def _handshaken(context: ssl.SSLContext, port: int) -> TlsSocket:
    plain = socket.create_connection(("127.0.0.1", port), SECONDS)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = TlsSocket(plain, context, "server", SystemClock.monotonic)
    connection.do_handshake(SECONDS)
    return connection


def _ask(connections: list[TlsSocket], count: int, seed: int) -> Load:
    """Asks on all connections, then reads all responses, so that the proxy has something to do all the time."""
    began, asked = time.monotonic(), 0
    while asked < count:
        for connection in connections:
            asked += 1
            connection.sendall((_REQUEST % (seed, asked)).encode())
        for connection in connections:
            _read(connection)
    return Load(asked, asked / (time.monotonic() - began))


def _read(connection: AnySocket) -> None:
    """One response. NotMeasured: it is not the backend's."""
    found = b""
    while not found.endswith(BODY.encode()):
        piece = connection.recv(65536)
        if not piece:
            raise NotMeasured(f"not served: {found[:100]!r}")
        found += piece
        if not found.startswith(_GOOD[: len(found)]):
            raise NotMeasured(f"not served: {found[:100]!r}")
