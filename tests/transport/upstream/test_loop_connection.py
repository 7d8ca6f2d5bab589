"""One connection of a loop: what its handler is told, in which order, and how it ends."""

from __future__ import annotations

import pytest

from meshlib.engine.outcome import Failure
from meshlib.policy.circuit_limits import Slots
from tests.support.loop_lender import LoopLender

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


class Told:
    """A handler: what it was told of, with the bytes that were there."""

    def __init__(self) -> None:
        self.calls: list = []

    def on_head(self, reader) -> None:
        self.calls.append(("head", reader.status, reader.take()))

    def on_data(self, reader) -> None:
        self.calls.append(("data", reader.take()))

    def on_end(self, reader) -> None:
        self.calls.append(("end", reader.take()))

    def on_failure(self, failure, detail, error, stale) -> None:
        self.calls.append(("failure", failure, stale))

    def on_writable(self, writable) -> None:
        self.calls.append(("writable", writable))

    def on_interim(self, reader) -> None:
        self.calls.append(("interim", reader.continue_seen))


@pytest.fixture
def lent():
    return LoopLender()


def start(lent: LoopLender) -> Told:
    told = Told()
    lent.connection.start(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", False, told, [(b"Host", b"a")])
    return told


def test_head_data_and_end_come_in_this_order_and_the_end_once(lent):
    told = start(lent)
    assert lent.transport.written == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for data in (b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"ab", b"cd"):
        lent.connection.data_received(data)
    lent.connection.connection_lost(None)
    assert told.calls == [("interim", True), ("head", 200, b""), ("data", b"ab"), ("end", b"cd")]


def test_who_hears_the_end_may_use_the_connection_again_at_once(lent):
    first, second = Told(), Told()
    first.on_end = lambda reader: lent.connection.start(b"2", False, second, [])
    lent.connection.start(b"1", False, first, [])
    lent.connection.data_received(HEAD + b"abcd")
    lent.connection.data_received(HEAD + b"efgh")
    assert second.calls == [("head", 200, b"efgh"), ("end", b"")]


@pytest.mark.parametrize(
    ("came", "error", "failure"),
    [
        (b"", None, Failure.RESET),
        (b"", ConnectionResetError("gone"), Failure.RESET),
        (b"HTTP/1.1 2", None, Failure.PROTOCOL_ERROR),
        (HEAD + b"ab", None, Failure.RESET),
    ],
)
def test_an_end_too_early_is_a_failure_and_stale_only_on_a_kept_connection_without_a_byte(lent, came, error, failure):
    start(lent)
    lent.connection.data_received(HEAD + b"abcd")
    told = start(lent)
    if came:
        lent.connection.data_received(came)
    lent.connection.connection_lost(error)
    assert told.calls[-1] == ("failure", failure, not came)
    assert lent.connection.closed


def test_a_first_request_is_never_stale(lent):
    told = start(lent)
    lent.connection.connection_lost(None)
    assert told.calls == [("failure", Failure.RESET, False)]


def test_a_body_without_length_ends_with_the_connection(lent):
    told = start(lent)
    lent.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nab")
    lent.connection.connection_lost(None)
    assert told.calls == [("head", 200, b"ab"), ("end", b"")]


class AtTheEnd:
    """A turn of the loop that ends when the test says so."""

    def __init__(self) -> None:
        self.due: list = []

    def call_soon(self, function) -> None:
        self.due.append(function)

    def end(self) -> None:
        for function in self.due:
            function()
        self.due.clear()


@pytest.fixture
def turn(lent):
    lent.turn = AtTheEnd()
    return lent.turn


def test_a_request_of_the_proxy_goes_out_when_the_turn_ends_and_what_follows_it_behind_it(lent, turn):
    start(lent)
    assert (lent.transport.written, lent.connection.unsent()) == (b"", 27)
    turn.end()
    assert lent.transport.written == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    lent.connection.data_received(HEAD + b"abcd")
    start(lent)
    lent.connection.write(b"more")
    turn.end()
    assert lent.transport.written == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + b"more"
    assert lent.connection.reader.reusable is False  # the second response is still to come


def test_a_request_whose_connection_is_lost_before_the_turn_ends_is_not_written(lent, turn):
    told = start(lent)
    lent.connection.connection_lost(None)
    turn.end()
    assert (lent.transport.written, told.calls) == (b"", [("failure", Failure.RESET, False)])


def test_bytes_that_are_there_before_a_request_went_out_are_nobodys_and_cost_the_connection(lent, turn):
    told = start(lent)
    lent.connection.data_received(HEAD + b"abcd")
    turn.end()
    assert (lent.transport.written, told.calls) == (b"", [("failure", Failure.RESET, False)])
    assert lent.transport.calls == ["abort"]


def test_a_connection_that_was_used_before_is_stale_then_and_the_request_goes_to_another(lent, turn):
    start(lent)
    turn.end()
    lent.connection.data_received(HEAD + b"abcd")
    told = start(lent)
    lent.connection.data_received(HEAD + b"efgh")
    assert told.calls == [("failure", Failure.RESET, True)]


def test_bytes_that_belong_to_no_request_cost_the_connection(lent):
    start(lent)
    lent.connection.data_received(HEAD + b"abcd")
    lent.connection.data_received(HEAD)
    assert (lent.connection.closed, lent.transport.calls) == (True, ["abort"])
    lent.connection.connection_lost(None)
    assert lent.fates == ["forgotten"]


def test_whoever_gives_up_hears_nothing_more_and_the_slot_goes_back_once(lent):
    slots = Slots(1)
    assert slots.try_acquire()
    lent.connection.slot = slots
    told = start(lent)
    lent.connection.abort()
    lent.connection.connection_lost(None)
    assert (told.calls, slots.in_use, lent.transport.calls) == ([], 0, ["abort"])


@pytest.mark.parametrize(("unsent", "how"), [(0, "close"), (9, "abort")])
def test_it_closes_politely_unless_the_server_still_owes_a_read(lent, unsent, how):
    lent.transport.unsent = unsent
    lent.connection.retire()
    assert (lent.connection.closed, lent.transport.calls) == (True, [how])
