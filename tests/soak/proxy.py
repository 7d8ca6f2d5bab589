"""``python -m tests.soak.proxy --minutes M --seed S``: ``meshlib proxy`` under everything at once for M minutes, then a
verdict. Exit status 1 when anything is wrong. Linux only (/proc).

Clients keep connections and ask in every way there is (small and large bodies, chunks, pipelines, streams that they leave,
tunnels), two of three servers die and come back, resources are edited; and every response must bear the id of its request,
every failure have an excuse (a server was killed meanwhile), memory and descriptors must stay where they were.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.proxy_command import ProxyCommand, ask, free_port

CLIENTS = 24
REPLICAS = 3
EXCUSED = 3.0
"""Seconds after a kill in which a call may fail that cannot be sent again."""
SAMPLE = 2.0
PATIENCE = 30.0
MIB = 1 << 20


# -- the servers ----------------------------------------------------------------------------------------------------------


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """``/how/ID``: the id comes back, in the way that ``how`` says."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
            }
            _, target, _ = first.split(" ")
            size = 0
            if headers.get("transfer-encoding") == "chunked":
                while length := int(await reader.readline(), 16):
                    size += len(await reader.readexactly(length + 2)) - 2
                await reader.readline()
            elif "content-length" in headers:
                size = len(await reader.readexactly(int(headers["content-length"])))
            _, how, name = target.split("/", 2)
            body = f"{name} {size}".encode()
            if how == "stream":
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                for part in (body, b" " * 70_000, b" " * 70_000):
                    writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
            elif how == "cut":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + body)
                await writer.drain()
                return
            elif how == "fail":
                writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def serve(port: int) -> None:
    """Until it is killed."""
    server = await asyncio.start_server(answer, "127.0.0.1", port, limit=MIB)
    async with server:
        await server.serve_forever()


class Replicas:
    """Three, of which two may be gone at a time."""

    def __init__(self) -> None:
        self.ports = [free_port() for _ in range(REPLICAS)]
        self.processes = [self._start(port) for port in self.ports]
        self.killed = 0.0

    @staticmethod
    def _start(port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.soak.proxy", "--serve", str(port)])

    def kill(self, number: int) -> None:
        self.processes[number].kill()
        self.processes[number].wait()
        self.killed = time.monotonic()

    def revive(self, number: int) -> None:
        self.processes[number] = self._start(self.ports[number])

    def accepts(self, number: int) -> bool:
        """Whether it can be called."""
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.ports[number])) == 0

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def resources(ports: list[int], number: int) -> str:
    """What the proxy watches; ``number`` makes one version another than the next."""
    endpoints = ", ".join(f"{{address: 127.0.0.1, ports: {{http: {port}}}}}" for port in ports)
    return f"""---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: soak, namespace: default}}
spec:
  hosts: [soak.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 81, name: tcp, protocol: TCP, targetPort: {ports[0]}}}]
  resolution: STATIC
  endpoints: [{endpoints}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: soak, namespace: default}}
spec:
  hosts: [soak.example]
  http:
  - timeout: {20 + number % 7}s
    retries: {{attempts: 4, retryOn: "connect-failure,reset,gateway-error", backoff: 5ms}}
    headers: {{response: {{set: {{x-version: "{number}"}}}}}}
    route: [{{destination: {{host: soak.example, port: {{number: 80}}}}}}]
"""


# -- the clients ----------------------------------------------------------------------------------------------------------


class Client:
    """One connection at a time, and whatever comes to its mind."""

    def __init__(self, name: int, port: int, seed: int, verdict: Verdict) -> None:
        self._name = name
        self._port = port
        self._rng = random.Random(f"{seed} {name}")
        self._verdict = verdict
        self._number = 0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            how = self._rng.choices(HOW, WEIGHTS)[0]
            began = time.monotonic()
            try:
                await asyncio.wait_for(how(self), PATIENCE)
                self._verdict.done[how.__name__] += 1
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self._verdict.failed(how.__name__, began, repr(error))
                self.leave()
            except TimeoutError:
                self._verdict.problem(f"{how.__name__} took more than {PATIENCE:g} s")
                self.leave()
        self.leave()

    def leave(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

    def _id(self) -> str:
        self._number += 1
        return f"{self._name}-{self._number}"

    async def _send(self, data: bytes) -> asyncio.StreamReader:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=MIB)
        reader, writer = self._streams
        writer.write(data)
        await writer.drain()
        return reader

    @staticmethod
    def _head(method: str, how: str, name: str, *lines: str) -> bytes:
        return "\r\n".join([f"{method} /{how}/{name} HTTP/1.1", "Host: soak.example", *lines, "", ""]).encode()

    async def _response(self, reader: asyncio.StreamReader, name: str, size: int = 0) -> None:
        status, body = await self._read(reader)
        if status == 200 and body.split(b" ")[:2] != [name.encode(), b"%d" % size]:
            self._verdict.problem(f"crossed: asked as {name} with {size} bytes, got {body[:60]!r}")
        elif status != 200:
            raise ConnectionError(f"{status} {body[:160]!r}")

    async def _read(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = await reader.readuntil(b"\r\n\r\n")
        lower, status = head.lower(), int(head.split(b" ")[1])
        body = b""
        if b"transfer-encoding: chunked" in lower:
            while length := int(await reader.readline(), 16):
                body += (await reader.readexactly(length + 2))[:-2]
            await reader.readline()
        else:
            body = await reader.readexactly(int(lower.split(b"content-length: ")[1].split(b"\r")[0]))
        if b"connection: close" in lower:
            self.leave()
        return status, body

    async def get(self) -> None:
        name = self._id()
        await self._response(await self._send(self._head("GET", "echo", name)), name)

    async def pipeline(self) -> None:
        names = [self._id() for _ in range(5)]
        reader = await self._send(b"".join(self._head("GET", "echo", name) for name in names))
        for name in names:
            await self._response(reader, name)

    async def post(self) -> None:
        name, size = self._id(), self._rng.choice([1, 3000, 400_000])
        head = self._head("POST", "post", name, f"Content-Length: {size}")
        await self._response(await self._send(head + b"x" * size), name, size)

    async def chunks(self) -> None:
        name, size = self._id(), self._rng.choice([1, 3000, 90_000])
        head = self._head("POST", "post", name, "Transfer-Encoding: chunked")
        await self._response(await self._send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)), name, size)

    async def stream(self) -> None:
        name = self._id()
        await self._response(await self._send(self._head("GET", "stream", name)), name)

    async def left_stream(self) -> None:
        await (await self._send(self._head("GET", "stream", self._id()))).readuntil(b"\r\n\r\n")
        self.leave()

    async def left_request(self) -> None:
        await self._send(self._head("POST", "post", self._id(), "Content-Length: 100000") + b"x" * 1000)
        self.leave()

    async def cut(self) -> None:
        reader = await self._send(self._head("GET", "cut", self._id()))
        try:
            await self._read(reader)
        except asyncio.IncompleteReadError:
            self.leave()
        else:
            self._verdict.problem("a response that was cut came whole")

    async def nonsense(self) -> None:
        reader = await self._send(
            b"GET / HTTP/1.1\r\nHost: soak.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
        )
        status, _ = await self._read(reader)
        if status != 400:
            self._verdict.problem(f"nonsense got {status}")

    async def tunnel(self) -> None:
        self.leave()
        reader = await self._send(b"CONNECT soak.example:81 HTTP/1.1\r\nHost: soak.example:81\r\n\r\n")
        if not (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"):
            raise ConnectionError("no tunnel")
        name = self._id()
        await self._response(await self._send(self._head("GET", "echo", name)), name)
        self.leave()


HOW = (Client.get, Client.pipeline, Client.post, Client.chunks, Client.stream, Client.left_stream, Client.left_request,
       Client.cut, Client.nonsense, Client.tunnel)  # fmt: skip
WEIGHTS = (40, 10, 10, 10, 10, 4, 4, 4, 4, 4)


class Verdict:
    """What was done, what failed, and what has no excuse."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self.done: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.samples: list[tuple[int, int]] = []

    def problem(self, what: str) -> None:
        self.problems[what] += 1

    def failed(self, how: str, began: float, error: str) -> None:
        """Excused when a server was killed while it was under way, or shortly before."""
        if began - EXCUSED <= self._replicas.killed:
            self.excused[how] += 1
        else:
            self.problem(f"{how} failed with no server killed meanwhile: {error}")

    def memory(self) -> None:
        """Resident memory of the last third may be an eighth larger than that of the one before, descriptors no more."""
        third = len(self.samples) // 3
        if third < 5:
            return
        middle, last = self.samples[third : 2 * third], self.samples[2 * third :]
        before, after = (max(rss for rss, _ in part) for part in (middle, last))
        if after > before * 1.125:
            self.problem(f"resident memory grew from {before // MIB} to {after // MIB} MiB in the last third")
        before, after = (max(files for _, files in part) for part in (middle, last))
        if after > before * 1.25 + 10:
            self.problem(f"descriptors grew from {before} to {after} in the last third")


def usage(pid: int) -> tuple[int, int]:
    """Resident bytes and descriptors of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))


async def disturb(replicas: Replicas, proxy: ProxyCommand, rng: random.Random, until: float) -> None:
    """Kill servers, bring them back, edit resources."""
    number = 0
    while time.monotonic() < until:
        await asyncio.sleep(rng.uniform(0.5, 2.0))
        number += 1
        proxy.configure(resources(replicas.ports, number))
        if number % 4 == 0:
            gone = rng.randrange(1, REPLICAS)
            replicas.kill(gone)
            await asyncio.sleep(rng.uniform(0.1, 1.0))
            replicas.revive(gone)
            while not replicas.accepts(gone):
                replicas.killed = time.monotonic()  # it is gone still
                await asyncio.sleep(0.05)


async def watch(pid: int, verdict: Verdict, until: float) -> None:
    """Take samples."""
    while time.monotonic() < until:
        await asyncio.sleep(SAMPLE)
        verdict.samples.append(usage(pid))
        if len(verdict.samples) % 15 == 0:
            rss, files = verdict.samples[-1]
            done, excused = sum(verdict.done.values()), sum(verdict.excused.values())
            say(f"{done} calls, {excused} excused, {rss // MIB} MiB, {files} descriptors")


async def soak(proxy: ProxyCommand, replicas: Replicas, minutes: float, seed: int) -> Verdict:
    """Everything at once."""
    verdict = Verdict(replicas)
    until = time.monotonic() + minutes * 60
    rng = random.Random(seed)
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(Client(number, proxy.port, seed, verdict).run(until))
        group.create_task(disturb(replicas, proxy, rng, until))
        group.create_task(watch(proxy.process.pid, verdict, until))
    verdict.memory()
    return verdict


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """0: nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.proxy", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", type=int, default=0)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
        return 0
    replicas = Replicas()
    try:
        with tempfile.TemporaryDirectory() as folder:
            admin = free_port()
            with ProxyCommand(
                Path(folder), replicas.ports[0], "--admin", f"127.0.0.1:{admin}", "--drain", "2"
            ) as proxy:
                assert proxy.port
                while not all(map(replicas.accepts, range(REPLICAS))):
                    time.sleep(0.05)
                proxy.configure(resources(replicas.ports, 0))
                proxy.process.send_signal(signal.SIGHUP)
                while '"soak.example' not in ask(admin, "/config_dump")[1]:
                    time.sleep(0.05)
                verdict = asyncio.run(soak(proxy, replicas, given.minutes, given.seed))
                while any(each["connections"] for each in listeners(admin)):
                    time.sleep(0.05)
                proxy.process.send_signal(signal.SIGTERM)
                code = proxy.ends()
                odd = [line for line in proxy.lines if " ERROR " in line or "Traceback" in line]
    finally:
        replicas.stop()
    if code != 0:
        verdict.problem(f"the proxy ended with {code}")
    for line in odd:
        verdict.problem(f"in its log: {line[:200]}")
    say(f"done: {dict(verdict.done)}")
    say(f"excused: {dict(verdict.excused)}")
    for what, times in verdict.problems.most_common(20):
        say(f"PROBLEM ({times}): {what}")
    say("clean" if not verdict.problems else f"{sum(verdict.problems.values())} problems")
    return 1 if verdict.problems else 0


def listeners(admin: int) -> list[dict[str, int]]:
    """As its admin endpoint has them."""
    found: list[dict[str, int]] = json.loads(ask(admin, "/listeners?format=json")[1])["listener_statuses"]
    return found


if __name__ == "__main__":
    raise SystemExit(main())
