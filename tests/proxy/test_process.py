"""The command ``meshlib proxy`` as a process: it says where it listens, forwards, and ends at SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import signal
import threading

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
