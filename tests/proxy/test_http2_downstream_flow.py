"""Connections of HTTP/2 without a network: drains, clients that do not read, floods, and time."""

from __future__ import annotations

import gc
import random
import weakref
from types import SimpleNamespace

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
)

from meshlib.policy.path_spellings import NORMALIZATIONS
from meshlib.policy.request_ids import AT_ONCE, RequestIds
from meshlib.proxy import http2_downstream
from meshlib.proxy.forwarded_path import forwarded_path
from meshlib.proxy.http2_call import Http2Call
from meshlib.proxy.slow_clients import Wait
from meshlib.transport.protocol.http1_request import Refused
from meshlib.transport.protocol.http2_client_frames import PREFACE
from meshlib.transport.protocol.http2_server import ServerSession
from tests.support.http2_client import GET, POST, Client
from tests.support.http2_down import Forwarding, called, connected

MANY = [f"x_{number}" for number in range(110)]
GRPC = {"content_type": "application/grpc", "te": "trailers"}


def test_a_connection_without_a_stream_is_waited_for_until_it_is_drained():
    down, transport, listener = connected()
    assert down.waits() == (Wait.NEXT, 0)
    down.data_received(PREFACE + SettingsFrame(0).serialize())
    assert down.waits() == (Wait.NEXT, 1)
    down.give_up(Wait.NEXT)
    assert down.session.draining
    ((due, drained),) = listener.loop.timers
    assert due == http2_downstream.ACKNOWLEDGED_IN
    drained()
    assert "eof" in transport.said
    assert down.waits() is None
    down.connection_lost(None)
    assert listener.said == ["opened", "closed"]


SETTINGS = SettingsFrame(0).serialize()
HEAD = Client(greet=False).head(1, GET).serialize()
UNENDED = HeadersFrame(1, Client(greet=False).encoder.encode(GET)).serialize()
"""CONTINUATION is to come."""
EXTENSION = bytes((0, 0, 100, 0xBE, 0, 0, 0, 0, 0)) + b"-" * 100
"""A frame of a kind that nobody knows."""


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (PREFACE[:10], PREFACE[10:11]),
        (PREFACE + SETTINGS[:5], SETTINGS[5:6]),
        (PREFACE + SETTINGS + HEAD[:4], HEAD[4:6]),
        (PREFACE + SETTINGS + HEAD[:12], HEAD[12:13]),
        (PREFACE + SETTINGS + UNENDED, ContinuationFrame(1, b"").serialize()),
        *((PREFACE + SETTINGS + EXTENSION[:-missing], EXTENSION[-missing : 1 - missing]) for missing in (23, 24, 25)),
    ],
    ids=[
        "preface",
        "first frame",
        "head of a frame",
        "frame",
        "header block",
        "all but 23",
        "all but 24",
        "all but 25",
    ],
)
def test_what_a_client_has_begun_is_waited_for_as_a_head_is_however_many_bytes_of_it_come(first, more):
    down, transport, listener = connected()
    down.data_received(first)
    waited = down.waits()
    assert waited is not None
    assert waited[0] is Wait.HEAD
    down.data_received(more)
    assert down.waits() == waited
    down.give_up(Wait.HEAD)
    ((_, drained),) = listener.loop.timers
    drained()
    assert "eof" in transport.said


def test_a_head_that_was_refused_or_is_over_is_waited_for_no_longer():
    client = Client(greet=False)
    malformed = client.head(1, [*GET, (":path", "/again")])
    down, _, listener = connected()
    listener.ids = RequestIds(random.Random(1))
    listener.forward = lambda request, responder: None
    down.data_received(PREFACE + SETTINGS + malformed.serialize())
    assert down.waits() == (Wait.NEXT, 1)
    down.data_received(client.head(3, GET).serialize() + RstStreamFrame(3, error_code=8).serialize())
    assert down.waits() == (Wait.NEXT, 2)
    again = client.head(5, [*GET, (":path", "/again")]).serialize() + RstStreamFrame(5, error_code=8).serialize()
    down.data_received(again)  # malformed, and reset in the same read
    assert down.waits() == (Wait.NEXT, 3)
    down.data_received(client.head(7, GET).serialize()[:10])
    assert down.waits() == (Wait.HEAD, 7)


def test_a_head_of_a_stream_that_is_one_too_many_is_waited_for_no_longer():
    client, responders = Client(greet=False), []
    down, _, listener = connected()
    down.session = ServerSession(down, 0.0, 1, streams=Http2Call)
    listener.ids = RequestIds(random.Random(1))
    listener.forward = lambda request, responder: responders.append(responder)
    heads = b"".join(client.head(stream, GET).serialize() for stream in (1, 3, 5))
    down.data_received(PREFACE + SETTINGS + heads)
    assert len(responders) == 1
    down.data_received(RstStreamFrame(1, error_code=8).serialize())
    waited = down.waits()
    assert waited is not None
    assert waited[0] is Wait.NEXT


def test_a_body_that_does_not_come_is_not_waited_for_without_end():
    down, _, listener = connected()
    forwarding = Forwarding()
    listener.ids = RequestIds(random.Random(1))
    listener.forward = lambda request, responder: forwarding
    client = Client(greet=False)
    grpc = [*POST, ("content-type", "application/grpc")]
    heads = [client.head(1, POST, False), client.head(3, GET), client.head(5, grpc, False)]
    down.data_received(PREFACE + SettingsFrame(0).serialize() + b"".join(head.serialize() for head in heads))
    assert down.waits() == (Wait.BODY, 1)
    down.give_up(Wait.BODY)
    assert sorted(down.session.streams) == [3, 5]
    assert forwarding.said == ["cancel"]
    assert listener.refusals == [408]
    assert down.waits() is None


def test_a_body_is_not_waited_for_either_when_nobody_forwards_its_request():
    down, _, listener = connected()
    listener.ids = RequestIds(random.Random(1))
    listener.forward = lambda request, responder: None
    down.data_received(PREFACE + SettingsFrame(0).serialize() + Client(greet=False).head(1, POST, False).serialize())
    down.give_up(Wait.BODY)
    assert not down.session.streams


def test_a_connection_that_comes_while_the_listener_drains_is_told_so():
    down, _, _ = connected(draining=True)
    assert down.session.draining


def test_a_client_that_does_not_read_what_it_asks_for_is_dropped():
    down, transport, _ = connected()
    transport.waiting = http2_downstream.BACKLOG_MOST + 1
    down._flush()
    assert transport.said[-1] == "abort"
    down._flush()
    down.flush_soon()
    down.flush_soon()


def test_a_client_that_floods_is_read_in_turns():
    down, transport, listener = connected()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    down.data_received(preface + b"\0\0\x08\6\0\0\0\0\0" + b"12345678" + b"\0\0\x08\6\1\0\0\0\0" + b"12345678")
    down.data_received(b"\0\0\x08\6\1\0\0\0\0" + b"12345678")
    flood = b"\0\0\x08\6\1\0\0\0\0" + b"12345678"
    down.data_received(flood * 600)
    assert "pause" in transport.said
    listener.loop.soon[-1]()
    assert transport.said[-1] != "pause"
    assert "resume" in transport.said
    listener.loop.soon[-1]()


def test_a_request_that_is_reset_with_its_head_is_not_forwarded():
    down, _, listener = connected()
    listener.forward = None
    client = Client(greet=False)
    frames = client.head(1, POST, False).serialize() + RstStreamFrame(1, error_code=8).serialize()
    down.data_received(PREFACE + SettingsFrame(0).serialize() + frames)


def test_nothing_is_read_after_the_end():
    down, transport, _ = connected()
    down.data_received(b"GET / HTTP/1.1\r\n\r\n        ")
    assert "eof" in transport.said
    said = len(transport.said)
    down.data_received(b"more")
    down._catch_up()
    assert len(transport.said) == said
    assert down.eof_received() is False


def test_a_connection_that_is_over_is_not_kept_until_the_garbage_collector_comes():
    """nghttp2 keeps tens of kilobytes of each, which the collector does not count."""

    def sessions():
        return sum(type(each) is ServerSession for each in gc.get_objects())

    gc.disable()
    try:
        down, transport, listener, _, (call,) = called()
        call.respond(200, b"", [], b"whole", None)
        there = sessions()
        down.connection_lost(None)
        listener.loop.soon.clear()
        listener.forward = None  # remembers the call
        del down, transport, listener, call, _
        assert sessions() == there - 1
    finally:
        gc.enable()


def test_a_client_that_does_not_take_the_last_bytes_is_not_waited_for_without_end():
    down, transport, _ = connected()
    transport.close()
    transport.waiting = 70_000
    assert down.waits() == (Wait.LEAVE, 70_000)
    down.give_up(Wait.LEAVE)
    assert transport.said[-1] == "abort"


PATHS = (
    "/",
    "/a?b=//c/./d",
    "/a//b",
    "/a/./b",
    "/a/../b",
    "/.",
    "/a%2Fb",
    "/a%2fb//c",
    "/a%2E%2e/b",
    "/a\\b",
    "/%61?%00",
)
REFUSED = ("/a%00", "/a/%2e%2e;/b")


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_path_goes_on_as_it_does_over_any_version_of_http(normalization):
    down, _, listener = connected()
    listener.ids = RequestIds(random.Random(1))
    seen: list[bytes] = []

    def forward(request, responder):
        seen.append(request.target)
        return Forwarding()

    listener.forward = forward
    mesh = SimpleNamespace(path_normalization=normalization, proxy_headers=SimpleNamespace(request_id=True))
    default = SimpleNamespace(default=SimpleNamespace(mesh=mesh))
    listener.live = SimpleNamespace(snapshot=SimpleNamespace(inbound=default))  # type: ignore[assignment]
    client = Client(greet=False)
    expected: list[bytes] = []
    heads, refused = [], 0
    for number, path in enumerate((*PATHS, *REFUSED)):
        heads.append(client.head(2 * number + 1, [(name, path if name == ":path" else text) for name, text in GET]))
        try:
            expected.append(forwarded_path(path.encode(), normalization))
        except Refused:
            refused += 1
    down.data_received(PREFACE + SettingsFrame(0).serialize() + b"".join(head.serialize() for head in heads))
    assert seen == expected
    assert listener.refusals == [400] * refused
    assert len(set(seen)) > 1


def test_each_request_of_a_connection_has_a_number_of_its_own():
    down, _, listener = connected()
    listener.ids, seen = RequestIds(random.Random(1)), []

    def forward(request, _):
        seen.append(request.header("x-request-id"))
        return Forwarding()

    listener.forward = forward
    client, asked = Client(greet=False), AT_ONCE + 2
    heads = b"".join(client.head(2 * number + 1, GET).serialize() for number in range(asked))
    down.data_received(PREFACE + SettingsFrame(0).serialize() + heads)
    assert len(set(seen)) == len(seen) == asked


@pytest.mark.parametrize("ends", ["whole", "empty", "written", "gone", "cut"])
def test_a_call_whose_body_came_in_pieces_leaves_nothing_to_the_garbage_collector(ends):
    down, _, listener = connected()
    listener.ids = RequestIds(random.Random(1))
    calls: list[Http2Call] = []
    bodies: list[object] = []

    def forward(request, responder):
        calls.append(responder)
        bodies.append(request.body)
        return Forwarding()

    listener.forward = forward
    client = Client(greet=False)
    down.data_received(PREFACE + SettingsFrame(0).serialize() + client.head(1, POST, False).serialize())
    for end in (False, True):
        down.data_received(DataFrame(1, b"piece", flags=["END_STREAM"] if end else []).serialize())
    (made,) = calls
    gc.collect()
    gc.disable()
    try:
        if ends == "whole":
            made.respond(200, b"", [], b"all", None)
        elif ends == "empty":
            made.respond(204, b"", [], b"", None)
        elif ends == "written":
            made.begin(200, b"", [])
            made.write(b"some")
            made.end(None)
        elif ends == "gone":
            down.data_received(RstStreamFrame(1, error_code=8).serialize())
        else:
            made.cut()
        assert not down.session.streams
        left = weakref.ref(made)
        del made
        calls.clear()
        bodies.clear()
        assert left() is None
    finally:
        gc.enable()
