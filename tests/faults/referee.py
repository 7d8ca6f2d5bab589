"""A backend in a process of its own that can be killed, and that never mixes anything up: what it answers carries what
it was asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Self

SERVER = r"""
import asyncio, signal, sys
import httptools

class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.reset()
    def reset(self):
        self.url = b""; self.body = []; self.host = b""
    def on_url(self, url): self.url += url
    def on_body(self, data): self.body.append(data)
    def on_message_complete(self):
        path, body = self.url, b"".join(self.body)
        keep = self.parser.should_keep_alive()
        self.reset()
        if path.startswith(b"/echo"): answer = body
        elif path.startswith(b"/port"): answer = b"%d" % self.transport.get_extra_info("peername")[1]
        elif path.startswith(b"/big"): answer = b"x" * 2_000_000
        else: answer = NAME.encode() + b" " + path
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)
        if not keep: self.transport.close()
    def data_received(self, data):
        try: self.parser.feed_data(data)
        except httptools.HttpParserError: self.transport.close()

NAME = sys.argv[2]
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Protocol, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.run_in_executor(None, lambda: (sys.stdin.read(), __import__("os")._exit(0)))
    await server.serve_forever()
asyncio.run(main())
"""


class Backend:
    """``/echo`` answers the body, ``/port`` the client's port, ``/big`` two megabytes, everything else ``<name> <path>``.
    Ends with its parent."""

    def __init__(self, name: str = "one", port: int = 0) -> None:
        self.name = name
        self.port = port
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self.port), self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
