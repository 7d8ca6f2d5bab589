"""A scripted HTTP/1.1 server."""

from __future__ import annotations

import asyncio
import json as json_module
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

import httptools

from meshlib.testing.upstreams.listener import Listener, reset
from meshlib.testing.upstreams.script import Gate, Request, Step
from meshlib.testing.upstreams.upstream import TOKEN, Upstream

if TYPE_CHECKING:
    import httpx

    from meshlib.clock import Clock
    from meshlib.testing.upstreams.listener import LoopThread

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Respond(Step):
    """One response. ``chunks``: its body comes chunked, in these pieces. ``made_by``: what makes it of the request."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes = b""
    chunks: tuple[bytes, ...] | None = None
    made_by: Callable[[Request], httpx.Response] | None = None


class HttpUpstream(Upstream[Respond]):
    """Responds as its script says, then with 200 and its name; see ``always``."""

    def __init__(self, thread: LoopThread, clock: Clock, host: str, subset: str = "") -> None:
        super().__init__(thread, clock, host, subset, Respond(content=b""))
        self._script.default = Respond(headers=(("content-type", "text/plain"),), content=self.name.encode())
        self._listener = Listener(lambda listener: _Connection(self, listener))
        self.start()

    def respond(
        self,
        status: int = 200,
        *,
        text: str | None = None,
        json: object = None,
        content: bytes = b"",
        chunks: Sequence[bytes] | None = None,
        headers: Headers = (),
        delay: float = 0.0,
        gate: Gate | None = None,
        times: int = 1,
    ) -> Self:
        """The next request (the next ``times`` of them) gets this response; once only, after those that were said before.

        ``delay``: seconds that it takes, by the clock of the mesh that calls, so that on a fake one nobody waits, and one that
        is longer than the caller's timeout is a timeout at once. ``gate``: the response is held until ``gate.open()``."""
        self._script.add(_made(status, text, json, content, chunks, headers, delay, gate), times)
        return self

    def respond_each(self, *statuses: int) -> Self:
        """The next requests get these statuses, one each."""
        for status in statuses:
            self.respond(status)
        return self

    def always(
        self,
        status: int = 200,
        *,
        text: str | None = None,
        json: object = None,
        content: bytes = b"",
        chunks: Sequence[bytes] | None = None,
        headers: Headers = (),
        delay: float = 0.0,
        gate: Gate | None = None,
    ) -> Self:
        """Every request that the script has nothing for gets this response."""
        self._script.default = _made(status, text, json, content, chunks, headers, delay, gate)
        return self

    def respond_with(self, make: Callable[[Request], httpx.Response]) -> Self:
        """Every request that the script has nothing for gets what ``make`` makes of it, an ``httpx.Response``. It runs on the
        upstreams' loop, and must not wait. What it raises fails the test when it ends; its request gets 500."""
        self._script.default = Respond(made_by=make)
        return self

    def reset(
        self,
        *,
        after: int | None = None,
        content: bytes = b"",
        delay: float = 0.0,
        gate: Gate | None = None,
        times: int = 1,
    ) -> Self:
        """The connection of the next request is reset: before the response begins, or ``after`` so many bytes of the body
        ``content``, whose length was told."""
        self._script.add(Respond(delay, gate, "reset", after, content=_bytes(content, "content")), times)
        return self

    def partial_body(self, content: bytes, *, after: int, delay: float = 0.0, times: int = 1) -> Self:
        """The connection of the next request is closed ``after`` so many bytes of the body ``content``, whose length was
        told."""
        self._script.add(Respond(delay, None, "close", after, content=_bytes(content, "content")), times)
        return self


def _made(
    status: int,
    text: str | None,
    json: object,
    content: bytes,
    chunks: Sequence[bytes] | None,
    headers: Headers,
    delay: float,
    gate: Gate | None,
) -> Respond:
    given = {"text": text, "json": json, "content": content or None, "chunks": chunks}
    bodies = [name for name, value in given.items() if value is not None]
    if len(bodies) > 1:
        raise ValueError(f"a response has one body: {' and '.join(bodies)} were given")
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ValueError(f"{status!r} is not the status of a response: a whole number from 200 to 999")
    pairs = _pairs(headers)
    if text is not None:
        content, pairs = text.encode(), (("content-type", "text/plain; charset=utf-8"), *pairs)
    elif json is not None:
        content, pairs = json_module.dumps(json).encode(), (("content-type", "application/json"), *pairs)
    return Respond(
        delay,
        gate,
        status=status,
        headers=pairs,
        content=_bytes(content, "content"),
        chunks=None if chunks is None else tuple(_bytes(chunk, "chunks") for chunk in chunks),
    )


def _bytes(body: bytes, name: str) -> bytes:
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise TypeError(f"{name} takes bytes, not {body!r}: a text is text=...")
    return bytes(body)


def _pairs(headers: Headers) -> tuple[tuple[str, str], ...]:
    pairs = tuple(headers.items() if isinstance(headers, Mapping) else headers)
    for name, value in pairs:
        try:
            written = f"{name}: {value}".encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(
                f"the header {name}: {value!r} has characters that HTTP cannot send: encode them"
            ) from None
        if any(end in written for end in (b"\r", b"\n", b"\0")):
            raise ValueError(f"the header {name}: {value!r} has a line end")
    return pairs


class _Connection(asyncio.Protocol):
    """One connection; its requests are served one after another."""

    def __init__(self, upstream: HttpUpstream, listener: Listener) -> None:
        self._upstream = upstream
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request, str, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()

    # -- asyncio's callbacks ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._listener.opened(transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._listener.transports.discard(self._transport)
        if self._task is not None:
            self._task.cancel()

    # -- httptools' callbacks -----------------------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        token = next((value for name, value in self._headers if name.lower() == TOKEN), "")
        headers = tuple(pair for pair in self._headers if pair[0].lower() != TOKEN)
        method: str = self._parser.get_method().decode()
        request = Request(method, self._url.decode("latin-1"), headers, bytes(self._body))
        self._queue.append((request, token, self._parser.should_keep_alive()))
        self._begin()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    # -- responding ---------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while self._queue:
            request, token, keep_alive = self._queue.popleft()
            step, reserved = self._upstream._script.take(token)
            self._upstream._script.record(request)
            if step.gate is not None:
                await step.gate.hold_async()
            if step.delay and not reserved:  # somebody who calls past every mesh
                await self._upstream._clock.sleep_async(step.delay)
            if step.made_by is not None:
                step = self._made(step, step.made_by, request)
            if step.breaks and step.after is None:
                reset(self._transport)
                return
            self._write(step, request.method == "HEAD", keep_alive)
            if step.breaks == "reset":
                reset(self._transport)
            if step.breaks or not keep_alive:
                self._transport.close()
                return
        self._task = None

    def _made(self, step: Respond, make: Callable[[Request], httpx.Response], request: Request) -> Respond:
        try:
            return _of_httpx(step, make(request))
        except Exception as error:  # noqa: BLE001 (it is the test's own, which is told of it)
            self._upstream.failures.append(error)
            said = f"respond_with of {self._upstream.name} raised {type(error).__name__}: {error}"
            return Respond(status=500, content=said.encode())

    def _write(self, step: Respond, head_only: bool, keep_alive: bool) -> None:
        try:
            reason = HTTPStatus(step.status).phrase
        except ValueError:
            reason = ""
        lines = [f"HTTP/1.1 {step.status} {reason}", *(f"{name}: {value}" for name, value in step.headers)]
        bodiless = step.status in (204, 304) or step.status < 200
        if step.chunks is not None:
            lines.append("transfer-encoding: chunked")
        elif not bodiless:
            lines.append(f"content-length: {len(step.content)}")
        if not keep_alive:
            lines.append("connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if head_only or bodiless:
            self._transport.write(head)
        elif step.chunks is None:
            self._transport.write(head + (step.content if step.after is None else step.content[: step.after]))
        else:
            self._transport.write(head)
            for chunk in step.chunks:
                self._transport.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self._transport.write(b"0\r\n\r\n")


def _of_httpx(step: Respond, made: httpx.Response) -> Respond:
    framing = ("content-length", "transfer-encoding")
    headers = tuple((k, v) for k, v in made.headers.multi_items() if k.lower() not in framing)
    content = b"".join(made.stream) if isinstance(made.stream, Iterable) else made.content  # as it is on the wire
    return replace(step, status=made.status_code, headers=headers, content=content, made_by=None)
