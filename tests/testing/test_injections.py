"""Injected outcomes are what the real thing would come to, and say that they are injected."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import httpx
import pytest

import meshlib
from meshlib.engine.outcome import Failure, Outcome
from meshlib.testing import injections
from meshlib.transport.protocol.http1 import BodyFailed

SEND = SimpleNamespace(endpoint=SimpleNamespace(key="127.0.0.1:9081"))


class Parts:
    """A body that comes in pieces."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.aborted = False

    def __iter__(self):
        yield from self.parts

    def abort(self) -> None:
        self.aborted = True


class AwaitedParts(Parts):
    """The same on a loop."""

    __iter__ = None  # type: ignore[assignment]

    async def __aiter__(self):
        for part in self.parts:
            yield part


def test_a_dead_endpoint_is_told_in_the_words_of_a_real_one(mesh):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(meshlib.errors.ConnectFailed) as raised:
            mesh(endpoints={"reviews": where}).client().get("http://reviews/")
    injected = injections.down(SimpleNamespace(endpoint=SimpleNamespace(key=where)))
    words = injected.detail.removesuffix(f" ({injections.INJECTED})")
    assert words != injected.detail
    assert words in str(raised.value)
    assert type(injected.error) is ConnectionRefusedError


@pytest.mark.parametrize("injection", [injections.down, injections.dns_failure, injections.expired_certificate])
def test_nothing_was_sent_where_there_is_no_connection(injection):
    assert injection(SEND).failure is Failure.CONNECT_FAILED


def read(body) -> tuple[bytes, Failure | None]:
    got = bytearray()
    try:
        for part in body:
            got += part
    except BodyFailed as error:
        return bytes(got), error.failure
    return bytes(got), None


async def read_async(body) -> tuple[bytes, Failure | None]:
    got = bytearray()
    try:
        async for part in body:
            got += part
    except BodyFailed as error:
        return bytes(got), error.failure
    return bytes(got), None


@pytest.mark.parametrize(("after", "kept"), [(0, b""), (1, b"a"), (2, b"ab"), (3, b"abc"), (99, b"abcde")])
def test_a_body_is_cut_after_so_many_bytes_however_they_come(after, kept):
    cut = injections.cut(after, clean=True)
    whole, parts, awaited = Outcome(status=200, whole=b"abcde"), Parts(b"ab", b"cde"), AwaitedParts(b"ab", b"cde")
    assert read(cut(whole).body) == (kept, Failure.RESET)
    assert asyncio.run(read_async(cut(Outcome(status=200, whole=b"abcde")).body)) == (kept, Failure.RESET)
    assert read(cut(Outcome(status=200, body=parts)).body) == (kept, Failure.RESET)
    assert asyncio.run(read_async(cut(Outcome(status=200, body=awaited)).body)) == (kept, Failure.RESET)
    assert parts.aborted
    assert awaited.aborted


def test_a_caller_who_gives_a_cut_body_up_gives_up_what_is_behind_it():
    parts = Parts(b"ab")
    injections.cut(1, clean=False)(Outcome(status=200, body=parts)).body.close()
    assert parts.aborted


def test_a_lost_response_is_dropped():
    parts = Parts(b"ab")
    outcome = injections.lose(SEND)(Outcome(status=200, body=parts))
    assert outcome.failure is Failure.RESET
    assert parts.aborted


def test_an_unread_httpx_response_of_a_cut_call_closes_it(mesh, chaos):
    chaos.on("reviews").partial_body(after=1)
    client = mesh(endpoints={"reviews": "127.0.0.1:1"}).client(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, text="ab"))
    )
    with client.stream("GET", "http://reviews/") as response:
        pass
    assert response.is_closed
