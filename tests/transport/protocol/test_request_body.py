"""Request bodies that several attempts read from the start."""

from __future__ import annotations

import httpx
import httpx2
import pytest

from meshlib.transport.protocol.request_body import REPLAY_LIMIT, Bodied, ReplayBody, SourceFailed, body_of


def test_a_second_reader_gets_what_the_first_has_read_and_then_the_rest():
    body = ReplayBody(iter([b"a", b"", b"b", b"c"]))
    first = iter(body)
    assert [next(first), next(first)] == [b"a", b"b"]
    assert list(body) == [b"a", b"b", b"c"]
    assert list(body) == [b"a", b"b", b"c"]
    assert body.ended
    assert body.replayable


async def test_so_it_is_on_a_loop():
    async def source():
        for chunk in (b"a", b"", b"b"):
            yield chunk

    body = ReplayBody(source())
    assert [chunk async for chunk in body] == [b"a", b"b"]
    assert [chunk async for chunk in body] == [b"a", b"b"]


def test_past_the_limit_nothing_is_kept_and_nothing_can_be_sent_again():
    body = ReplayBody(iter([b"1234", b"5678", b"9"]), limit=8)
    reader = iter(body)
    assert [next(reader), next(reader), body.replayable] == [b"1234", b"5678", True]
    assert [next(reader), body.replayable, body._kept] == [b"9", False, []]
    assert REPLAY_LIMIT == 1024 * 1024


def test_what_the_callers_iterator_raises_is_told_as_the_callers():
    def source():
        yield b"a"
        raise KeyError("mine")

    body = ReplayBody(source())
    reader = iter(body)
    assert next(reader) == b"a"
    with pytest.raises(SourceFailed, match="the request body raised KeyError: 'mine'") as raised:
        next(reader)
    assert isinstance(raised.value.cause, KeyError)
    assert (body.ended, body.replayable) == (True, False)


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_the_body_of_a_request_is_its_bytes_or_none_or_a_stream(module):
    def made(**given):
        return module.Request("POST", "http://a", **given)

    assert body_of(made(content=b"abc"), True, module) == b"abc"
    assert body_of(made(), True, module) is None
    for sync in (True, False):  # of a request that follows a redirect, httpx has not read what is at hand
        assert body_of(made(stream=module.ByteStream(b"abc")), sync, module) == b"abc"
        assert body_of(made(stream=module.ByteStream(b"")), sync, module) is None
    streamed = body_of(made(content=iter([b"a", b"b"])), True, module)
    assert isinstance(streamed, ReplayBody)
    assert list(streamed) == [b"a", b"b"]


class Request(Bodied):
    body = None


def about(body):
    request = Request()
    request.body = body
    return request.body_bytes(), request.replayable, request.whole, request.sent


def test_what_a_request_knows_of_its_body_by_what_that_is():
    assert about(None) == (0, True, True, True)
    assert about(b"abc") == (3, True, True, True)
    body = ReplayBody(iter([b"abc"]), limit=2)
    assert about(body) == (0, True, False, False)
    list(body)
    assert about(body) == (3, False, True, True)
