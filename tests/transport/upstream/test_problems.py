"""What went wrong on the wire: which failure it is, in which words."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from meshlib.engine.call import CallerTimeouts
from meshlib.engine.outcome import Failure
from meshlib.transport.upstream import problems
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.followed import UnusableFiles
from meshlib.transport.upstream.target import Target

TARGET = Target("reviews.test", 9080)


def attempt(head: float | None = None, pool: float | None = None) -> Attempt:
    return Attempt(b"GET", b"/", [], None, TARGET, head, caller=CallerTimeouts(pool=pool))


HERE = "reviews.test:9080"
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 9080)")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "unknown"), "the name reviews.test was not found: unknown"),
        (UnusableFiles("cert.pem is half written"), "cert.pem is half written"),
        (ssl.SSLError("timed out"), f"TLS handshake with {HERE} failed: ('timed out',)"),
        (REFUSED, f"no connection to {HERE}: Connection refused"),
        (OSError("no route"), f"no connection to {HERE}: no route"),
    ],
)
def test_no_connection_in_words_that_are_the_same_in_every_runtime(error, words):
    assert problems.connect_problem(TARGET, error) == words


@pytest.mark.parametrize(
    ("head", "limit", "failure"),
    [(None, 10.0, Failure.CONNECT_TIMEOUT), (3.0, 3.0, Failure.TIMEOUT), (5.0, 3.0, Failure.CONNECT_TIMEOUT)],
)
def test_a_connect_that_takes_too_long_is_the_routes_timeout_if_that_was_the_strictest(head, limit, failure):
    outcome = problems.no_connection(attempt(head), limit)
    assert outcome.failure is failure
    assert f"within {'the 3 s left' if failure is Failure.TIMEOUT else f'{limit:g} s'}" in outcome.detail


@pytest.mark.parametrize(
    ("head", "pool", "failure"),
    [
        (None, 2.0, Failure.POOL_TIMEOUT),
        (5.0, 2.0, Failure.POOL_TIMEOUT),
        (2.0, 2.0, Failure.TIMEOUT),
        (1.0, None, Failure.TIMEOUT),
    ],
)
def test_no_slot_in_time_is_whose_time_was_shorter(head, pool, failure):
    assert problems.no_slot(attempt(head, pool)).failure is failure


@pytest.mark.parametrize("stale", [True, False])
def test_a_connection_that_ended_before_the_head_is_a_reset(stale):
    plain, error = problems.broke(None, stale), problems.broke(OSError("cut"), stale)
    assert (plain.failure, plain.detail, plain.stale) == (Failure.RESET, problems.NO_RESPONSE, stale)
    assert (error.failure, error.detail, error.stale) == (Failure.RESET, "the connection broke: cut", stale)


def test_the_rest_say_what_to_do_or_how_long_it_was():
    assert problems.no_head(attempt(1.5)).detail == "no response within 1.5 s"
    assert problems.mesh_closed().failure is Failure.CLOSED
    upgrade = problems.no_upgrade(TARGET)
    assert upgrade.failure is Failure.INVALID_REQUEST
    assert "named http or ws" in upgrade.detail
    package = problems.no_http2_package(TARGET, ImportError("no ngh2"))
    assert package.failure is Failure.CONNECT_FAILED
    assert package.detail.endswith(problems.HTTP2_REMEDY)
    assert problems.too_long(9).failure is Failure.PROTOCOL_ERROR
