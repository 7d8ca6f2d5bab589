"""What an attempt over HTTP/1.1 has come to, by what its reader has read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from meshlib.engine.outcome import Outcome
from meshlib.proxy.response_outcome import outcome_of
from meshlib.transport.protocol.raw_response import RawResponseReader

HEAD = b"HTTP/1.1 201 Made\r\nContent-Length: 6\r\n\r\n"
TOLD = SimpleNamespace(stream="the connection's")


def read(*pieces: bytes) -> RawResponseReader:
    reader = RawResponseReader()
    reader.begin(False)
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize("pieces", [(HEAD + b"abcdef",), (HEAD, b"abc", b"def")])
def test_a_whole_response_is_its_head_and_its_body(pieces):
    outcome = outcome_of(read(*pieces), Outcome(), TOLD)
    assert (outcome.status, outcome.reason, outcome.http_version) == (201, b"Made", b"HTTP/1.1")
    assert outcome.headers.lines == b"Content-Length: 6\r\n"
    assert (outcome.whole, outcome.body, outcome.size) == (b"abcdef", None, len(HEAD) + 6)
    assert outcome.stream == "the connection's"


def test_of_one_that_is_still_coming_it_is_the_head(monkeypatch):
    outcome = outcome_of(read(HEAD, b"abc"), Outcome(), None)
    assert (outcome.status, outcome.whole, outcome.size, outcome.stream) == (201, None, len(HEAD), None)


def test_one_that_was_another_responses_keeps_nothing_of_that():
    outcome = outcome_of(read(HEAD + b"abcdef"), Outcome(), TOLD)
    outcome_of(read(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), outcome, None)
    assert (outcome.status, outcome.reason, outcome.whole, outcome.stream) == (200, b"OK", b"", None)
    assert outcome.headers.lines == b"Content-Length: 0\r\n"
