"""Bodies of responses on their way: each ends its exchange once, with how the body ended."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import httpx2
import pytest

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.httpx.dialect import dialect
from meshlib.transport.protocol.http1 import BodyFailed

RECORD = SimpleNamespace(
    endpoint="10.0.0.1:80", resource="", rule=None, host="reviews", subset="", attempts=[], flags="", not_sent_again=""
)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def module(request):
    return request.param


class Body:
    """Of both kinds: two pieces, then what cuts it."""

    def __init__(self, error=None):
        self.error, self.closed = error, False

    def __iter__(self):
        yield from (b"a", b"b")
        if self.error is not None:
            raise self.error

    async def __aiter__(self):
        for piece in self:
            yield piece

    def close(self):
        self.closed = True

    async def aclose(self):
        self.closed = True


class Ends(list):
    """How exchanges have ended. Holds them: one that nobody holds is closed by the garbage collector."""

    def __init__(self):
        self.held = []


def delivered(ends):
    """An exchange that has delivered its response, and notes how that ended."""

    def exchange():
        try:
            ends.append((yield))
        except GeneratorExit:
            ends.append("dropped")
            raise

    made = exchange()
    next(made)
    ends.held.append(made)
    return made


def blocking(module, body, ends):
    request = module.Request("GET", "http://reviews/")
    call = SimpleNamespace(record=RECORD)
    return dialect(module).stream(Outcome(body=body), call, delivered(ends), request)


def awaited(module, body, ends):
    request = module.Request("GET", "http://reviews/")
    call = SimpleNamespace(record=RECORD)
    return dialect(module).async_stream(Outcome(body=body), call, delivered(ends), request)


async def test_what_is_read_to_its_end_ends_the_exchange_once(module):
    ends = Ends()
    stream = blocking(module, Body(), ends)
    assert list(stream) == [b"a", b"b"]
    stream.close()
    stream = awaited(module, Body(), ends)
    assert [piece async for piece in stream] == [b"a", b"b"]
    await stream.aclose()
    assert ends == [None, None]


async def test_what_is_cut_is_the_modules_exception_and_the_exchange_hears_of_it(module):
    ends = Ends()
    cut = BodyFailed(Failure.TIMEOUT, "too slow")
    with pytest.raises(module.ReadTimeout, match="too slow; last endpoint 10.0.0.1:80") as raised:
        list(blocking(module, Body(cut), ends))
    assert raised.value.__cause__ is cut
    assert raised.value.request.url == "http://reviews/"
    with pytest.raises(module.ReadTimeout, match="too slow"):
        [piece async for piece in awaited(module, Body(cut), ends)]
    assert ends == [Failure.TIMEOUT, Failure.TIMEOUT]


async def test_what_is_closed_before_its_end_is_dropped_and_so_is_the_exchange(module):
    ends, bodies = Ends(), [Body(), Body()]
    stream = blocking(module, bodies[0], ends)
    assert next(iter(stream)) == b"a"
    stream.close()
    stream.close()
    other = awaited(module, bodies[1], ends)
    await other.aclose()
    await other.aclose()
    assert ends == ["dropped", "dropped"]
    assert [body.closed for body in bodies] == [True, True]


def test_they_are_streams_of_their_module(module):
    assert isinstance(blocking(module, Body(), Ends()), module.SyncByteStream)
    assert isinstance(awaited(module, Body(), Ends()), module.AsyncByteStream)
