"""The rest of a response for a thread: read, cut, too late, dropped, and left to the garbage collector."""

from __future__ import annotations

import pytest

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.outcome import Failure
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.threads_body import SyncBody
from tests.support.lender import TARGET, Lent


@pytest.fixture(params=[False, True], ids=["plain text", "TLS"])
def lent(request):
    made = Lent(request.param)
    made.connection.requests = 1
    made.connection.reader.begin(False)
    made.connection.reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    yield made
    made.close()


def body(lent: Lent, deadline: float | None = None, read: float | None = None) -> SyncBody:
    caller = CallerTimeouts(read=read)
    return SyncBody(lent.connection, Attempt(b"GET", b"/", [], None, TARGET, deadline=deadline, caller=caller))


def test_read_to_its_end_it_gives_the_connection_back_once(lent):
    lent.far.sendall(b"cd")
    made = body(lent)
    assert list(made) == [b"ab", b"cd"]
    assert lent.fate == "given back"
    lent.fate = "lent"  # to the next call
    made.close()
    assert list(made) == []
    assert lent.fate == "lent"


@pytest.mark.parametrize("closed", [False, True])
def test_one_that_is_cut_says_whether_the_mesh_was_closed(lent, closed):
    lent.far.close()
    lent.closed = closed
    with pytest.raises(BodyFailed) as cut:
        list(body(lent))
    assert cut.value.failure is (Failure.CLOSED if closed else Failure.RESET)
    assert lent.fate == "closed"


def test_silence_is_the_callers_read_timeout(lent):
    with pytest.raises(BodyFailed) as silent:
        list(body(lent, read=0.001))
    assert (silent.value.failure, lent.fate) == (Failure.TIMEOUT, "closed")
    assert "read timeout" in silent.value.detail


def test_a_deadline_that_is_over_asks_the_network_nothing(lent):
    lent.far.sendall(b"cd")
    lent.now = lambda: 10.0
    parts = iter(body(lent, deadline=10.0))
    assert next(parts) == b"ab"
    with pytest.raises(BodyFailed) as late:
        next(parts)
    assert late.value.failure is Failure.TIMEOUT
    assert "route's timeout" in late.value.detail


@pytest.mark.parametrize("whole", [False, True])
def test_closed_before_its_end_it_costs_the_connection_unless_all_had_come(lent, whole):
    if whole:
        lent.connection.reader.feed(b"cd")
    body(lent).close()
    assert lent.fate == ("given back" if whole else "closed")


def test_dropped_it_gives_up_its_own_request_and_no_later_one(lent):
    made = body(lent)
    del made
    assert lent.fate == "closed"
    made, lent.fate = body(lent), "lent"
    lent.connection.requests = 2
    made.close()
    del made
    assert lent.fate == "lent"
