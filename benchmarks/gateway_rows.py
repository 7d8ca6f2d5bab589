"""Gateways beside a real Envoy with the same resources, one worker each on one core: TLS that ends there (kept connections, a
full handshake a request), and connections that nobody reads (TCP, and TLS by its server name)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.certificates import write_certificates
from benchmarks.free_ports import free_port
from benchmarks.gateway_backend import MEGABYTE
from benchmarks.measure import Row
from benchmarks.proxy_backends import BODY, nginx
from benchmarks.proxy_envoy import Scene, inbound, typed
from benchmarks.proxy_http1_rows import counted
from benchmarks.proxy_load import FEW, Load, wrk
from benchmarks.proxy_processes import (
    ENVOY,
    MESHLIB,
    NotMeasured,
    Proxy,
    cores,
    envoy_proxy,
    on_the_other_core,
    running,
    write_resources,
)
from benchmarks.proxy_rounds import Figure, Taken, not_measured, rows, take_turns

KEPT = 64
CERTIFICATES = 1000
BYTES = 300
"""MB of a connection that nobody reads."""
SECONDS = 60.0
NAME = "shop.test"
_REQUEST = "GET /reviews/0 HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n"


def _requests(taken: Taken) -> float:
    return 1e6 / taken.cpu


def _megabytes(taken: Taken) -> float:
    return BYTES * 1e6 / taken.cpu


TERMINATED = Figure(
    "gateway, TLS ends, kept connections, requests a second of CPU", _requests, "requests", 1.0, None, False
)
SHAKEN = Figure("gateway, TLS ends, a full handshake a request", _requests, "requests", 0.5, 0.7, False)
PASSED = {
    "TCP": Figure("gateway, TCP, bytes a second of CPU", _megabytes, "MB", 0.9, None, False),
    "TLS": Figure("gateway, TLS passed through, bytes a second of CPU", _megabytes, "MB", 0.9, None, False),
}


def gateways(quick: bool) -> list[Row]:
    """All of them."""
    made = []
    every = (("TLS ends", _terminated), ("RSS", _certificates), ("TCP", _passed), ("TLS passed through", _passed))
    for name, measure in every:
        try:
            with on_the_other_core(), tempfile.TemporaryDirectory(prefix="meshlib-gateway-") as folder:
                made += measure(Path(folder), quick, name.partition(" ")[0])
        except (NotMeasured, OSError) as why:
            made.append(not_measured(f"gateway, {name}", why))
    return made


# -- TLS that ends at the gateway ----------------------------------------------------------------------------------------


def _terminated(folder: Path, quick: bool, _: str) -> list[Row]:
    rounds, seconds, handshakes = (3, 3, 100) if quick else (7, 3, 500)
    write_certificates(folder)
    downstream = typed(
        "transport_sockets.tls.v3",
        "DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": str(folder / "cert.pem")},
                    "private_key": {"filename": str(folder / "key.pem")},
                }
            ],
        },
    )
    with nginx() as backend, contextlib.ExitStack() as stack:
        tls = {
            "mode": "SIMPLE",
            "serverCertificate": str(folder / "cert.pem"),
            "privateKey": str(folder / "key.pem"),
        }
        resources = _resources("HTTPS", backend.port, tls)
        proxies = [
            stack.enter_context(
                envoy_proxy(folder, lambda port: inbound(port, backend.port, Scene(downstream_tls=downstream)))
            ),
            stack.enter_context(gateway_proxy(folder, resources)),
        ]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        def keep(proxy: Proxy, number: int) -> Load:
            def load() -> Load:
                return wrk(folder, proxy.port, FEW, KEPT, seconds, number, base=f"https://127.0.0.1:{proxy.port}")

            return counted(backend, KEPT, load)

        def shake_hands(proxy: Proxy, _: int) -> Load:
            began = time.monotonic()
            for _ in range(handshakes):
                _ask_once(context, proxy)
            return Load(handshakes, handshakes / (time.monotonic() - began))

        made = rows([TERMINATED], take_turns(proxies, rounds, keep))
        return made + rows([SHAKEN], take_turns(proxies, rounds, shake_hands))


def _ask_once(context: ssl.SSLContext, proxy: Proxy, name: str = NAME) -> None:
    with (
        socket.create_connection(("127.0.0.1", proxy.port), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=name) as sock,
    ):
        sock.sendall(_REQUEST.format(name=name).encode())
        found = b""
        while not found.endswith(BODY.encode()):
            more = sock.recv(65536)
            if not more:
                raise NotMeasured(f"not served: {found[:100]!r}")
            found += more
        if not found.startswith(b"HTTP/1.1 200 "):
            raise NotMeasured(f"not served: {found[:100]!r}")


# -- many certificates ---------------------------------------------------------------------------------------------------


def _certificates(folder: Path, _quick: bool, _: str) -> list[Row]:
    """What 1,000 servers, each with files of its own, make a gateway keep once each of them has been asked for."""
    write_certificates(folder)
    pairs = []
    for number in range(CERTIFICATES):
        pair = {}
        for kind in ("cert", "key"):
            pair[kind] = str(folder / f"{kind}-{number}.pem")
            shutil.copyfile(folder / f"{kind}.pem", pair[kind])
        pairs.append(pair)
    with nginx() as backend, contextlib.ExitStack() as stack:
        resources = _resources("HTTPS", backend.port, None)
        resources[0]["spec"]["servers"] = [
            {
                "port": {"number": 443, "name": f"https-{number}", "protocol": "HTTPS"},
                "hosts": [f"host-{number}.test"],
                "tls": {"mode": "SIMPLE", "serverCertificate": pair["cert"], "privateKey": pair["key"]},
            }
            for number, pair in enumerate(pairs)
        ]
        proxies = [
            stack.enter_context(envoy_proxy(folder, lambda port: _many_chains(port, backend.port, pairs))),
            stack.enter_context(gateway_proxy(folder, resources)),
        ]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        kept = {}
        for proxy in proxies:
            for number in range(CERTIFICATES):
                _ask_once(context, proxy, f"host-{number}.test")
            kept[proxy.name] = proxy.memory()
    ours, theirs = kept[MESHLIB], kept[ENVOY]
    details = f"{ours:.0f} against {theirs:.0f} MB, each certificate asked for once"
    return [
        Row(
            f"proxy, gateway, RSS with {CERTIFICATES} certificates, meshlib / Envoy",
            ours / theirs,
            "x",
            0.8,
            True,
            details,
        )
    ]


def _many_chains(port: int, backend: int, pairs: list[dict[str, str]]) -> dict[str, Any]:
    made = inbound(port, backend, Scene())
    (listener,) = made["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    listener["filter_chains"] = [
        {
            "filters": chain["filters"],
            "filter_chain_match": {"server_names": [f"host-{number}.test"]},
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": typed(
                    "transport_sockets.tls.v3",
                    "DownstreamTlsContext",
                    common_tls_context={
                        "tls_certificates": [
                            {"certificate_chain": {"filename": pair["cert"]}, "private_key": {"filename": pair["key"]}}
                        ]
                    },
                ),
            },
        }
        for number, pair in enumerate(pairs)
    ]
    inspector = typed("filters.listener.tls_inspector.v3", "TlsInspector")
    listener["listener_filters"] = [{"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}]
    return made


# -- connections that nobody reads ---------------------------------------------------------------------------------------


def _passed(folder: Path, quick: bool, what: str) -> list[Row]:
    rounds = 3 if quick else 7
    backend = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway_backend", str(backend)]
    tls = {"mode": "PASSTHROUGH"} if what == "TLS" else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(command, ("127.0.0.1", backend), cores()[1], folder / "backend.log"))
        proxies = [
            stack.enter_context(envoy_proxy(folder, lambda port: _tcp_envoy(port, backend, by_name=what == "TLS"))),
            stack.enter_context(gateway_proxy(folder, _resources(what, backend, tls))),
        ]
        first = _hello() if what == "TLS" else b""
        buffer = memoryview(bytearray(MEGABYTE))

        def once(proxy: Proxy, _: int) -> Load:
            with socket.create_connection(("127.0.0.1", proxy.port), SECONDS) as sock:
                sock.sendall(first + b"GO %d\n" % BYTES)
                left = BYTES * MEGABYTE
                while left > 0:
                    size = sock.recv_into(buffer)
                    if not size:
                        raise NotMeasured(f"{proxy.name} has closed with {left} bytes to come")
                    left -= size
            return Load(1, 1.0)

        return rows([PASSED[what]], take_turns(proxies, rounds, once))


def _hello() -> bytes:
    """What a client of TLS says first."""
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname=NAME).do_handshake()
    return said.read()


def _tcp_envoy(port: int, backend: int, *, by_name: bool) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": backend}}
    cluster = {
        "name": "backend",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    proxied = typed("filters.network.tcp_proxy.v3", "TcpProxy", stat_prefix="tcp", cluster="backend")
    chain: dict[str, Any] = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxied}]}
    listener: dict[str, Any] = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    }
    if by_name:
        chain["filter_chain_match"] = {"server_names": [NAME]}
        inspector = typed("filters.listener.tls_inspector.v3", "TlsInspector")
        listener["listener_filters"] = [{"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}]
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


# -- the gateway ---------------------------------------------------------------------------------------------------------


def _resources(protocol: str, backend: int, tls: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A Gateway with one server, in front of one endpoint."""
    route = {"route": [{"destination": {"host": "backend.test", "port": {"number": 8000}}}]}
    kind = {"HTTPS": "http", "TCP": "tcp", "TLS": "tls"}[protocol]
    if protocol == "TLS":
        route["match"] = [{"port": 443, "sniHosts": [NAME]}]  # type: ignore[assignment]
    server: dict[str, Any] = {"port": {"number": 443, "name": "port", "protocol": protocol}, "hosts": ["*"]}
    if tls is not None:
        server["tls"] = tls
    hosts = [NAME] if protocol == "TLS" else ["*"] if protocol == "HTTPS" else ["backend.test"]
    istio = "networking.istio.io/v1"
    return [
        {
            "apiVersion": istio,
            "kind": "Gateway",
            "metadata": {"name": "gw", "namespace": "default"},
            "spec": {"selector": {"istio": "ingress"}, "servers": [server]},
        },
        {
            "apiVersion": istio,
            "kind": "VirtualService",
            "metadata": {"name": "all", "namespace": "default"},
            "spec": {"hosts": hosts, "gateways": ["gw"], kind: [route]},
        },
        {
            "apiVersion": istio,
            "kind": "ServiceEntry",
            "metadata": {"name": "backend", "namespace": "default"},
            "spec": {
                "hosts": ["backend.test"],
                "resolution": "STATIC",
                "ports": [{"number": 8000, "name": "port", "protocol": "HTTP" if protocol == "HTTPS" else protocol}],
                "endpoints": [{"address": "127.0.0.1", "ports": {"port": backend}}],
            },
        },
    ]


@contextlib.contextmanager
def gateway_proxy(folder: Path, resources: list[dict[str, Any]]) -> Iterator[Proxy]:
    """``meshlib proxy --gateway`` with one worker, port 443 of it."""
    port = free_port()
    named = folder / f"mesh-{port}"
    named.mkdir()
    write_resources(named / "mesh.yaml", resources)
    command = [sys.executable, "-c", "from meshlib.cli.main import main; main()", "proxy", "--config", str(named)]
    command += ["--gateway", "default/gw", "--gateway-port", f"443=127.0.0.1:{port}"]
    with running(command, ("127.0.0.1", port), cores()[0], folder / f"meshlib-{port}.log") as pid:
        yield Proxy(MESHLIB, pid, port)
