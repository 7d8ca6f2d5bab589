"""The command ``meshlib proxy`` as a process: it says where it listens, forwards, and ends at SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import signal
import socket
import threading

import httpx

from meshlib.proxy.process import COLLECTED, ProxyProcess, run
from meshlib.telemetry.access_log import writer
from tests.support.forked import MAIN, SECONDS, Forked
from tests.support.proxy import Client
from tests.support.servers import EchoServer

MESH = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  ports: [{number: 9080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: PORT}}]
"""


def test_it_forwards_until_it_is_told_to_stop(tmp_path):
    with EchoServer("v1") as server:
        (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", str(server.port)))
        process = Forked(MAIN, "proxy", "--config", str(tmp_path), "--outbound", "127.0.0.1:0")
        try:
            found = None
            lines = []
            while found is None:
                line = process.stdout.readline()
                assert line, lines
                lines.append(line)
                found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            with Client(int(found.group(1))) as client:
                assert client.get("/a").status == 200
                process.send_signal(signal.SIGTERM)
                assert client.closed()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
            process.wait(SECONDS)
            process.stdout.close()
    assert server.seen[0]["path"] == "/a"


def test_its_admin_endpoint_has_the_calls_that_it_served_and_why_an_application_was_not_reached(tmp_path):
    with EchoServer("v1") as server, socket.create_server(("127.0.0.1", 0)) as held:
        gone = held.getsockname()[1]
        held.close()
        (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", "1"))
        admin = str(tmp_path / "admin.sock")
        ports = (
            each for app in (server.port, gone) for each in ("--inbound", "127.0.0.1:0", "--app", f"127.0.0.1:{app}")
        )
        process = Forked(MAIN, "proxy", "--config", str(tmp_path), *ports, "--admin", f"unix:{admin}")
        try:
            lines, found = [], []
            while len(found) < 2:
                lines.append(process.stdout.readline())
                assert lines[-1], lines
                found += re.findall(r"listening on 127\.0\.0\.1:(\d+)", lines[-1])
            for port, status in zip(found, (200, 503), strict=True):
                with Client(int(port)) as client:
                    assert client.get("/a?b").status == status
            with httpx.Client(transport=httpx.HTTPTransport(uds=admin)) as page:
                failed, well = page.get("http://admin/calls").json()["calls"]
        finally:
            process.kill()
            process.wait(SECONDS)
            process.stdout.close()
    assert [(call["direction"], call["path"], call["status"]) for call in (failed, well)] == [
        ("served", "/a?...", 503),
        ("served", "/a?...", 200),
    ]
    assert failed["flags"].startswith("UF")
    assert failed["endpoint"] == f"127.0.0.1:{gone}"
    assert failed["attempts"][-1]["detail"], "why it could not be reached"
    assert [attempt["status"] for attempt in well["attempts"]] == [200]


def test_a_process_that_forwards_is_seldom_collected_and_others_as_before():
    before, seen = gc.get_threshold(), []

    class Process:
        async def run(self, ready):
            seen.append(gc.get_threshold())

    run(Process)
    assert seen == [COLLECTED]
    assert gc.get_threshold() == before


def test_sigusr1_opens_the_files_of_access_logs_again(monkeypatch):
    opened = threading.Event()
    monkeypatch.setattr(writer, "reopen_all", opened.set)

    async def go() -> bool:
        process = object.__new__(ProxyProcess)
        process._loop, process._parent = asyncio.get_running_loop(), -1
        with contextlib.ExitStack() as undo:
            process._handle_signals(undo)
            os.kill(os.getpid(), signal.SIGUSR1)
            return await asyncio.to_thread(opened.wait, 60)

    assert asyncio.run(go())
