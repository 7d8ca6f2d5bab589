"""A server's connection over HTTP/2 as a whole: drained, left, closed and lost."""

from __future__ import annotations

import pytest
from hyperframe.frame import GoAwayFrame, PingFrame

from meshlib.transport.protocol.http2_codec import Code
from meshlib.transport.protocol.http2_response import response_head
from tests.support.http2_client import POST, Client

OK = response_head(200, [])


@pytest.mark.parametrize(
    ("error", "why"), [(None, "the client closed the connection"), (OSError(5, "x"), "[Errno 5] x")]
)
def test_a_connection_that_is_lost(error, why):
    client = Client()
    client.request(headers=POST, end=False)
    client.session.lost(error)
    client.session.lost(None)
    assert why in str(client.told.of("reset")[0][2])
    assert client.session.over


def test_a_connection_may_be_closed_with_a_reason():
    client = Client()
    client.request(headers=POST, end=False)
    client.session.close("idle for too long")
    client.session.close("again")
    client.read()
    assert client.got.goaways == [(1, Code.NO_ERROR)]
    assert client.told.of("reset") == [("reset", 1, "idle for too long")]


def test_a_drain_takes_what_was_under_way_and_then_says_that_it_is_over():
    client = Client()
    client.request(1, POST, end=False)
    client.session.drain()
    client.session.drain()
    client.read()
    assert client.got.goaways == [(2**31 - 1, Code.NO_ERROR)]
    client.request(3)  # sent before the client has seen that
    assert client.told.of("request")[-1] == ("request", 3, True)
    client.send(PingFrame(0, client.got.pings[-1][1], flags=["ACK"]))
    assert client.got.goaways[1:] == [(3, Code.NO_ERROR)]
    assert not client.session.over
    client.request(5)
    assert len(client.told.of("request")) == 2
    for number in (1, 3):
        client.session.respond(client.told.streams[number], OK, True)
    client.read()
    assert client.session.over
    assert client.session.broken is None


def test_a_client_that_does_not_acknowledge_is_not_waited_for():
    client = Client()
    client.session.drained()
    client.session.drained()
    client.read()
    assert client.got.goaways == [(0, Code.NO_ERROR)]
    assert client.session.over
    client.session.close("done")
    client.session.drain()
    client.session.drained()


def test_pings_of_others_end_no_drain():
    client = Client()
    client.session.drain()
    client.read()
    client.send(PingFrame(0, b"whatever", flags=["ACK"]))
    assert len(client.got.goaways) == 1


def test_a_client_that_leaves_is_served_to_the_end():
    client = Client()
    client.request(1)
    client.send(GoAwayFrame(0, last_stream_id=0, error_code=0, additional_data=b"bye"))
    assert not client.session.over
    client.session.respond(client.told.streams[1], OK, True)
    client.read()
    assert client.session.over
    assert client.got.ended == [1]


def test_nothing_is_expected_after_a_goodbye():
    client = Client()
    client.session.drained()
    client.read()
    client.request(1)
    assert client.told.calls == []
