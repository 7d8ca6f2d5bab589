"""What is refused before it is routed has the same words in our access log as in a real Envoy's."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.free_ports import free_port
from tests.differential.envoy_process import cluster, require_envoy, running
from tests.proxy.malformed import istio_sidecar
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

pytestmark = [pytest.mark.differential, pytest.mark.slow]

LOGGER = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
LINE = "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"
HOST = b"Host: reviews\r\n"
SENT = {
    "no request line": b"GET /a b HTTP/1.1\r\n" + HOST,
    "unknown method": b"BLAH /m HTTP/1.1\r\n" + HOST,
    "no name": b"GET /h HTTP/1.1\r\n" + HOST + b"X y: z\r\n",
    "control character": b"GET /h HTTP/1.1\r\n" + HOST + b"X: \x01\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n" + HOST,
    "too large": b"GET / HTTP/1.1\r\n" + HOST + b"X: %b\r\n" % (b"x" * 70_000),
    "too many": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 120,
    "length and chunks": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "coding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n",
    "length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n",
    "NUL": b"GET /%00 HTTP/1.1\r\n" + HOST,
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + HOST,
    "chunk": b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
}


def lines_of(port: int, log: Path, flush) -> dict[str, str]:
    found = {}
    for name, data in SENT.items():
        before = log.read_text() if log.exists() else ""
        with socket.create_connection(("127.0.0.1", port), 20) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(data + b"\r\n")
            assert sock.recv(65536)
        until = time.monotonic() + 30
        while not log.exists() or log.read_text() == before:
            flush()
            assert time.monotonic() < until, f"{name}: no line"
            time.sleep(0.01)
        found[name] = log.read_text()[len(before) :].strip()
    return found


def test_what_is_refused_has_envoys_words(tmp_path):
    require_envoy()
    with EchoServer("v1") as server:
        listen, admin = free_port(), free_port()
        log = tmp_path / "envoy"
        form = {"text_format_source": {"inline_string": LINE}}
        manager = {
            **istio_sidecar.MANAGER,
            "access_log": [{"name": "f", "typed_config": {"@type": LOGGER, "path": str(log), "log_format": form}}],
        }
        routes = {"virtual_hosts": [istio_sidecar._virtual_host("reviews")]}
        config = istio_sidecar._config(
            admin, [istio_sidecar._listener(listen, manager, routes)], [cluster("reviews", [server.port])]
        )
        with running(config, admin):
            theirs = lines_of(listen, log, lambda: httpx.post(f"http://127.0.0.1:{admin}/reopen_logs"))
        resources = [service("reviews", ports=[{"name": "http", "port": 80, "targetPort": 9080}])]
        resources.append(pod("reviews", "v1", server.port))
        with Proxy(resources, access_log=tmp_path / "ours", access_log_format=LINE) as proxy:
            ours = lines_of(proxy.port, tmp_path / "ours", lambda: None)
    assert ours == theirs
