"""One exchange of blocking clients, on a connection that nobody else uses."""

from __future__ import annotations

import threading

import pytest

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.outcome import Failure
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.request_body import ReplayBody
from tests.support.lender import Lent

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LENGTH = [(b"Host", b"a"), (b"Content-Length", b"3")]


@pytest.fixture(params=[False, True], ids=["plain text", "TLS"])
def lent(request):
    made = Lent(request.param)
    yield made
    made.close()


def answer(lent: Lent, data: bytes, after: bytes = b"\r\n\r\n", close: bool = False) -> threading.Thread:
    """Sends ``data`` when ``after`` has come."""

    def serve() -> None:
        seen = b""
        while after not in seen:
            seen += lent.far.recv(65536)
        lent.far.sendall(data)
        if close:
            lent.far.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_a_response_that_came_whole_gives_the_connection_back_at_once(lent):
    for _ in range(3):
        serving = answer(lent, OK)
        outcome = lent.exchange()
        assert (outcome.status, outcome.whole, outcome.body) == (200, b"ok", None)
        assert lent.fate == "given back"
        serving.join(60)


def test_a_body_that_comes_later_gives_it_back_at_its_end(lent):
    serving = answer(lent, OK[:-1])
    outcome = lent.exchange()
    assert outcome.whole is None
    assert lent.fate == "lent"
    serving.join(60)  # an SSLSocket is not for two threads at a time
    lent.far.sendall(b"k")
    assert b"".join(outcome.body) == b"ok"
    assert lent.fate == "given back"


def test_a_body_that_is_cut_or_dropped_costs_the_connection(lent):
    answer(lent, OK[:-1], close=True)
    outcome = lent.exchange()
    with pytest.raises(BodyFailed) as cut:
        b"".join(outcome.body)
    assert cut.value.failure is Failure.RESET
    assert lent.fate == "closed"


def test_a_dropped_body_costs_the_connection(lent):
    answer(lent, OK[:-1])
    lent.exchange().body.abort()
    assert lent.fate == "closed"


def test_no_head_in_time(lent):
    outcome = lent.exchange(head_timeout=0.05)
    assert (outcome.failure, outcome.detail) == (Failure.TIMEOUT, "no response within 0.05 s")


@pytest.mark.parametrize("used", [False, True])
def test_an_end_without_a_response_is_stale_where_the_connection_had_been_used(lent, used):
    if used:
        answer(lent, OK)
        lent.exchange()
    answer(lent, b"", close=True)
    outcome = lent.exchange()
    assert (outcome.failure, outcome.stale) == (Failure.RESET, used)


def test_a_small_body_goes_out_with_its_head_and_sets_no_timeout_anew(lent, monkeypatch):
    set_to = []
    monkeypatch.setattr(type(lent.connection), "set_timeout", lambda _, seconds: set_to.append(seconds))
    answer(lent, OK, after=b"abc")
    assert lent.exchange(b"POST", LENGTH, b"abc", caller=CallerTimeouts(write=9.0)).status == 200
    assert set_to == [5.0]


def test_an_early_response_ends_the_upload_and_poisons_the_connection(lent):
    answer(lent, OK)
    outcome = lent.exchange(b"POST", body=ReplayBody(iter([bytes(100_000)] * 200)))
    assert (outcome.status, outcome.whole) == (200, b"ok")
    assert lent.fate == "closed"


def test_a_body_that_nobody_reads_is_a_write_timeout(lent):
    body = ReplayBody(iter([bytes(1_000_000)] * 9))
    outcome = lent.exchange(b"POST", body=body, caller=CallerTimeouts(write=0.05))
    assert outcome.failure is Failure.WRITE_TIMEOUT
