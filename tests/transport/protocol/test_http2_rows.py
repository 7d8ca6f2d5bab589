"""Calls over HTTP/2 that come whole, many in one read, are looked at together: what comes of each is what it comes to alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PingFrame, RstStreamFrame, WindowUpdateFrame
from ngh2 import NGH2Error
from ngh2.events import (
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    SettingsAcknowledged,
    StreamClosed,
    TrailersReceived,
)

from meshlib.transport.protocol import http2_stream
from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_codec import Head
from meshlib.transport.protocol.http2_frames import FRAMES_AT_ONCE
from meshlib.transport.protocol.http2_request import RequestHead
from meshlib.transport.protocol.http2_response import response_head
from meshlib.transport.protocol.http2_server import ServerSession
from meshlib.transport.protocol.http2_stream import Stream
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.h2_frames import HEAD, SETTINGS
from tests.support.http2_client import GET, POST, Client
from tests.support.http2_codecs import Told

ngh2 = pytest.importorskip("meshlib.transport.protocol.http2_ngh2")
pytestmark = pytest.mark.skipif(PLAIN, reason="a shortcut")
BODY = b"x" * 64
TRAILERS = [(b"grpc-status", b"0")]
OK = [(b":status", b"200"), (b"content-type", b"application/grpc")]


class Server:
    """Writes responses as they are told, without a look at what was asked for."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def head(self, number: int, headers: Head, end: bool = False) -> HeadersFrame:
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        return HeadersFrame(number, self._encoder.encode(headers), flags=flags)

    def response(self, kind: str, number: int, unlike: int) -> list[Frame]:
        head = [*OK, (b"x-number", b"%d" % unlike)] if kind == "unknown" else OK
        if kind == "malformed":
            head = [(b":status", b"200"), (b"connection", b"close")]
        if kind == "head":
            return [self.head(number, head, True)]
        frames = [self.head(number, head)]
        if kind == "length":
            frames = [self.head(number, [*OK, (b"content-length", b"65")])]
        if kind == "pieces":
            frames.append(DataFrame(number, BODY))
        body = b"tiny" if kind == "tiny" else b"" if kind == "empty" else b"x" * 16_000 if kind == "large" else BODY
        if kind == "reset":
            return [*frames, DataFrame(number, body), RstStreamFrame(number, error_code=2)]
        if kind in ("trailers", "tiny", "unknown"):
            return [*frames, DataFrame(number, body), self.head(number, TRAILERS, True)]
        return [*frames, DataFrame(number, body, flags=["END_STREAM"])]


USUAL = ("trailers", "trailers", "body")
ALL = (*USUAL, "unknown", "malformed", "head", "length", "pieces", "tiny", "empty", "large", "reset")


def facts(stream: Stream) -> tuple[object, ...]:
    failed = stream.failed and (stream.failed.failure, stream.failed.detail)
    got = (
        stream.status,
        list(stream.headers),
        list(stream.chunks),
        list(stream.trailers),
        stream.received,
        stream.unread,
    )
    return (stream.id, failed, stream.complete, stream.begun, stream.head_done, stream.reused, *got)


def rounds(seed: int, budgets: bool = True) -> list[object]:
    """What comes of some batches of calls. ``budgets``: with what they may still send."""
    rng, server = random.Random(seed), Server()
    for seen in (http2_stream._proper, http2_stream._few):  # no run knows what another has met
        seen._known.clear()
        seen._misses = 0
    session = Http2Session(0.0, codec=ngh2.Ngh2Codec)
    session.receive(SETTINGS, 0.0)
    codec: Any = session._codec
    told: list[object] = []
    woken: list[None] = []
    for number in range(12):
        streams = []
        for each in range(rng.randrange(1, 6)):
            body = rng.choice([None, BODY])
            stream = session.open(HEAD, body is None, False, lambda: woken.append(None), body)
            assert stream is not None
            if rng.random() < 0.05:
                stream.sent = False  # as if its body were still on its way
            stream.compact = each == 3
            streams.append(stream)
        session.outgoing()
        kinds = rng.choice([USUAL[:1], USUAL[2:], USUAL, ALL])
        frames = [server.response(rng.choice(kinds), stream.id, number) for stream in streams]
        if rng.random() < 0.1:
            frames.insert(0, [WindowUpdateFrame(0, window_increment=1000)])
        session.receive(b"".join(frame.serialize() for each in frames for frame in each), number / 10)
        for stream in streams:
            stream.unfolded()
            told.append(facts(stream))
            session.take(stream)
        budget = codec._budget
        told.append((session.outgoing(), session.broken, len(woken)))
        if budgets:
            told.append((budget._left, budget._tiny, codec._unexplained))
        if session.broken is not None:
            return told
        told.append((sorted(session.streams), codec._connection.local_window_size))
    return told


@pytest.fixture
def looks(monkeypatch) -> list[bool]:
    """Of each look at all that has come: whether it was enough."""
    seen: list[bool] = []

    def noted(kind: Any) -> None:
        rows = kind._rows

        def looked(self, told, sink):
            left = rows(self, told, sink)
            seen.append(not left)
            return left

        monkeypatch.setattr(kind, "_rows", looked)

    noted(ngh2.Ngh2Codec)
    noted(ServerSession)
    return seen


@pytest.mark.parametrize("seed", range(60))
def test_responses_come_to_the_same_together_and_one_by_one(seed, monkeypatch):
    together = rounds(seed)
    monkeypatch.setattr(ngh2.Ngh2Codec, "_rows", lambda self, told, sink: told)
    assert rounds(seed) == together


@pytest.mark.parametrize("seed", range(60))
def test_responses_come_to_the_same_whole_and_in_pieces(seed, monkeypatch):
    whole = rounds(seed, budgets=False)
    monkeypatch.setattr(Http2Session, "on_wholes", lambda self, numbers, heads, bodies, trailers: [0] * len(numbers))
    assert rounds(seed, budgets=False) == whole


@pytest.mark.parametrize("gone", [True, False])
def test_of_streams_that_are_gone_or_whose_request_is_not_over_none_is_taken_whole(gone):
    session = Http2Session(0.0, codec=ngh2.Ngh2Codec)
    session.receive(SETTINGS, 0.0)
    head = ((b":status", b"200"), (b"x-own", b"a"))
    Stream(1, False, False, lambda: None).take_head(head)  # which is known from then on
    one, other = session.open(HEAD, True, False, lambda: None), session.open(HEAD, gone, False, lambda: None)
    assert one is not None
    assert other is not None
    if gone:
        session.cancel(other)
    before = facts(other)
    weights = session.on_wholes([other.id, one.id], [head] * 2, [BODY] * 2, [None] * 2)
    assert [bool(weight) for weight in weights] == [False, True]
    assert (session.responded, facts(other), one.complete) == (True, before, True)


@pytest.mark.parametrize(
    ("kinds", "enough"),
    [
        (["body"], True),
        (["body"] * 9, True),
        (["trailers"] * 9, True),
        (["trailers", "body"], False),
        (["body", "tiny"], False),
        (["body", "pieces"], False),
        (["trailers", "reset"], False),
        (["malformed"], False),
    ],
)
def test_it_is_enough_where_all_are_whole_and_of_one_kind(kinds, enough, looks):
    server, session = Server(), Http2Session(0.0, codec=ngh2.Ngh2Codec)
    session.receive(SETTINGS, 0.0)
    for _ in range(2):  # their heads are known from the first time on
        looks.clear()
        streams = [session.open(HEAD, True, False, lambda: None) for _ in kinds]
        session.outgoing()
        frames = [
            frame
            for kind, stream in zip(kinds, streams, strict=True)
            if stream
            for frame in server.response(kind, stream.id, 1)
        ]
        session.receive(b"".join(frame.serialize() for frame in frames), 0.0)
    assert (looks == [True]) is enough
    assert all(stream is not None and stream.settled for stream in streams)


def requests(rng: random.Random, client: Client, number: int, kind: str) -> list[Frame]:
    headers = [*(GET if kind == "get" else POST), ("x-number", str(number))]
    if kind == "malformed":
        headers.append(("Upper", "case"))
    if kind == "refused":
        headers.append(("content-length", "a few"))
    frames: list[Frame] = [client.head(number, headers, kind == "get")]
    if kind == "get":
        return frames
    if kind in ("pieces", "more"):
        frames.append(DataFrame(number, BODY))
    if kind == "trailers":
        return [*frames, DataFrame(number, BODY), client.head(number, [("a", "b")])]
    if kind != "more":
        frames.append(DataFrame(number, b"" if kind == "empty" else BODY, flags=["END_STREAM"]))
    if kind == "reset":
        frames.append(RstStreamFrame(number, error_code=8))
    return frames


ASKED = ("get", "post", "post", "pieces", "more", "trailers", "empty", "reset", "malformed", "refused")


def asked(seed: int) -> list[object]:
    """What comes of some batches of requests."""
    rng, client, told = random.Random(seed), Client(), []
    number = 1
    for batch in range(12):
        kinds = rng.choice([("get",), ("post",), ("get", "post"), ASKED, ("post", "refused")])
        frames: list[Frame] = []
        for _ in range(rng.randrange(1, 6)):
            frames += requests(rng, client, number, rng.choice(kinds))
            number += 2
        client.now = batch / 10
        if rng.random() < 0.2:  # it tells of no stream
            frames.insert(rng.randrange(2), PingFrame(0, b"12345678"))
        client.send(*frames)
        session = client.session
        for stream in list(session.streams.values()):
            if rng.random() < 0.8 and not session.respond_whole(stream, response_head(200, []), BODY, TRAILERS):
                session.respond(stream, response_head(200, []), True)
        client.read()
        heads = [
            [getattr(stream.head, name) for name in RequestHead.__slots__] for stream in client.told.streams.values()
        ]
        budget = session._budget
        told.append((list(client.told.calls), heads, sorted(session.streams), session._last, session.broken))
        told.append((client.got.heads, client.got.resets, client.got.windows, budget._left, session._closed))
        if session.broken is not None:
            return told
        told.append((client.got.pings, session._connection.local_window_size))
    return told


@pytest.mark.parametrize("seed", range(60))
def test_requests_come_to_the_same_together_and_one_by_one(seed, monkeypatch, looks):
    together = asked(seed)
    assert True in looks
    monkeypatch.setattr(ServerSession, "_rows", lambda self, told, sink: told)
    assert asked(seed) == together


@pytest.mark.parametrize("kind", ["get", "post"])
def test_streams_that_come_together_began_when_they_came(kind, looks):
    client = Client()
    looks.clear()
    client.now = 100.0
    client.send(*[frame for number in (1, 3, 5) for frame in requests(random.Random(1), client, number, kind)])
    assert looks == [True]
    assert [stream.began for stream in client.told.streams.values()] == [100.0] * 3  # resets are judged by it


@pytest.mark.parametrize(
    ("kinds", "enough"),
    [
        (["get"], True),
        (["get"] * 9, True),
        (["post"] * 9, True),
        (["get", "post"], False),
        (["post", "pieces"], False),
        (["post", "empty"], False),
        (["post", "more"], False),
    ],
)
def test_it_is_enough_where_all_requests_are_whole_and_of_one_kind(kinds, enough, looks):
    client = Client()
    looks.clear()
    frames = [requests(random.Random(1), client, 2 * at + 1, kind) for at, kind in enumerate(kinds)]
    client.send(*[frame for each in frames for frame in each])
    assert (looks == [True]) is enough
    assert [call[1] for call in client.told.of("request")] == [2 * at + 1 for at in range(len(kinds))]


class Connection:
    """What bytes are given back to; ``over``: a stream that takes none."""

    def __init__(self, over: int = 0) -> None:
        self.over = over
        self.given: list[tuple[int, int]] = []

    def acknowledge_received_data(self, size: int, number: int) -> None:
        if number == self.over:
            raise NGH2Error("it is over")
        self.given.append((size, number))


HEADERS = ((b":status", b"200"), (b"content-type", b"text/plain"))


def events(
    number: int, ends: bool = True, of_body: int = 0, of_trailers: int = 0, of_end: int = 0, code: int = 0
) -> Any:
    """Of a response, with or without trailers, in which something is not as it is in a row."""
    told = [ResponseReceived(number, HEADERS, False), DataReceived(of_body or number, BODY, ends)]
    if of_trailers:
        told.append(TrailersReceived(of_trailers, ((b"grpc-status", b"0"),)))
    return [*told, StreamClosed(of_end or number, code, None)]


@pytest.mark.parametrize(
    ("odd", "trailers"),
    [
        ({}, True),
        ({}, False),
        ({"ends": False}, False),
        ({"code": 2}, False),
        ({"code": 2}, True),
        ({"of_body": 9}, False),
        ({"of_body": 9}, True),
        ({"of_trailers": 9}, True),
        ({"of_end": 9}, False),
        ({"of_end": 9}, True),
    ],
)
def test_a_row_is_nothing_but_what_is_told_of_one_stream_after_another(odd, trailers):
    codec = ngh2.Ngh2Codec(0.0, 65535, 65535)
    told = Told()
    usual: Any = {"ends": not trailers, **({"of_trailers": 3} if trailers else {})}
    codec._connection = connection = Connection()
    left = codec._rows(events(3, **{**usual, **odd}), told)
    assert connection.given == ([] if odd else [(len(BODY), 3)])
    assert bool(left) is bool(odd)
    assert bool(told.calls) is not bool(odd)


REQUEST = tuple((name.encode(), value.encode()) for name, value in POST)


@pytest.mark.parametrize(
    ("asks", "enough"),
    [
        ([RequestReceived(1, REQUEST, True), RequestReceived(3, REQUEST, True)], True),
        ([RequestReceived(1, REQUEST, True), RequestReceived(3, REQUEST, False)], False),
        ([RequestReceived(1, REQUEST, False), DataReceived(1, BODY, True)], True),
        ([RequestReceived(1, REQUEST, False), DataReceived(3, BODY, True)], False),
        ([RequestReceived(1, REQUEST, False), DataReceived(1, BODY, False)], False),
        ([RequestReceived(1, REQUEST, False), DataReceived(1, b"", True)], False),
        ([RequestReceived(1, REQUEST, True), SettingsAcknowledged()], False),
        ([DataReceived(1, BODY, True), RequestReceived(3, REQUEST, True)], False),
    ],
)
def test_so_are_rows_of_requests(asks, enough):
    client = Client()
    session: Any = client.session
    session._connection = connection = Connection()
    left = session._rows(list(asks), client.told)
    with_body = type(asks[1]) is DataReceived
    assert connection.given == ([(len(BODY), 1)] if enough and with_body else [])
    assert left == ([] if enough else asks)
    assert bool(client.told.calls) is enough
    assert bool(session._last) is enough


def heads_first(told: list[Event]) -> list[Event]:
    """As nghttp2 writes what is said at once."""
    return sorted(told, key=lambda event: type(event) not in (RequestReceived, ResponseReceived))


@pytest.mark.parametrize("trailers", [True, False])
@pytest.mark.parametrize(
    ("odd", "enough"),
    [({}, True), ({"of_body": 3}, False), ({"of_end": 3}, False), ({"code": 2}, False)],
)
def test_heads_that_come_before_all_else_are_of_the_streams_that_end_in_their_order(trailers, odd, enough):
    codec, told = ngh2.Ngh2Codec(0.0, 65535, 65535), Told()
    codec._connection = connection = Connection()
    one, other = (
        events(number, ends=not trailers, of_trailers=number if trailers else 0, **(odd if number == 5 else {}))
        for number in (3, 5)
    )
    came = heads_first([*one, *other])
    assert codec._rows(came, told) == ([] if enough else came)
    assert connection.given == ([(len(BODY), 3), (len(BODY), 5)] if enough else [])
    assert [call[1] for call in told.calls if call[0] == "head"] == ([3, 5] if enough else [])
    of_another = [*one[:1], *other[:1], *other[1:], *one[1:]]
    assert codec._rows(of_another, told) == of_another


@pytest.mark.parametrize(("of_body", "enough"), [(3, True), (5, False)])
def test_so_are_requests_whose_heads_come_before_all_else(of_body, enough):
    client = Client()
    session: Any = client.session
    session._connection = connection = Connection()
    heads = [RequestReceived(1, REQUEST, False), RequestReceived(3, REQUEST, False)]
    came = [*heads, DataReceived(1, BODY, True), DataReceived(of_body, BODY, True)]
    assert session._rows(came, client.told) == ([] if enough else came)
    assert connection.given == ([(len(BODY), 1), (len(BODY), 3)] if enough else [])
    assert sorted(session.streams) == ([1, 3] if enough else [])


def test_each_is_taken_with_its_own_head_and_trailers():
    heads = [((b":status", b"200"), (b"x-own", value)) for value in (b"a", b"a", b"b", b"unknown", b"b", b"a")]
    lasts = [((b"grpc-status", value),) for value in (b"0", b"1", b"1", b"1", b"0" * 2000, b"0")]
    session = Http2Session(0.0, codec=ngh2.Ngh2Codec)
    session.receive(SETTINGS, 0.0)
    for head in (heads[0], heads[2]):
        Stream(1, False, False, lambda: None).take_head(head)
    streams = [session.open(HEAD, True, False, lambda: None) for _ in heads]
    numbers = [stream.id for stream in streams if stream]
    weights = session.on_wholes(numbers, heads, [BODY] * len(heads), lasts)
    assert [bool(weight) for weight in weights] == [True, True, True, False, False, True]
    got = [(stream.headers, stream.trailers) for stream in streams if stream and stream.complete]
    own = [(list(head[1:]), list(last)) for head, last in zip(heads, lasts, strict=True)]
    assert got == [*own[:3], own[5]]


def test_what_is_more_than_others_wait_for_is_not_looked_at_at_once():
    client, codec, told = Client(), ngh2.Ngh2Codec(0.0, 65535, 65535), Told()
    asks: list[Event] = [RequestReceived(2 * number, REQUEST, True) for number in range(1, FRAMES_AT_ONCE + 2)]
    assert client.session._rows(asks, client.told) == asks
    answers = [event for number in range(1, FRAMES_AT_ONCE + 2) for event in events(2 * number)]
    assert codec._rows(answers, told) == answers
    assert not client.told.calls
    assert not told.calls


def test_a_stream_whose_bytes_cannot_be_given_back_keeps_none_of_another():
    session: Any = Client().session
    session._connection = connection = Connection(over=3)
    session._gave_back([1, 2, 3], [1, 3, 5])
    assert connection.given == [(1, 1), (3, 5)]


def test_a_whole_response_and_a_whole_request_earn_the_other_side_frames():
    client = Client()
    session, budget = client.session, client.session._budget
    client.request()
    before = budget._left
    assert session.respond_whole(client.told.streams[1], response_head(200, []), BODY, [])
    session.receive(b"", 0.0)
    assert (budget._left - before, session._closed) == (20.0, 1)
    ours = Http2Session(0.0, codec=ngh2.Ngh2Codec)
    ours.receive(SETTINGS, 0.0)
    codec: Any = ours._codec
    before = codec._budget._left
    assert ours.open(HEAD, False, False, lambda: None, BODY) is not None
    ours.receive(b"", 0.0)
    assert codec._budget._left - before == 19.0
