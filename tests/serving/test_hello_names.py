"""What is read of a client's first message, in whatever pieces it comes."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.serving.hello_names import MOST, Hello, NotTls, hello_of
from tests.support.hellos import BOTH, NEW, OLD

WANTED = Hello("reviews", ("istio-h2", "istio", "h2"))


@pytest.mark.parametrize("hello", [BOTH, OLD, NEW])
def test_the_server_name_and_the_protocols_are_read(hello):
    assert hello_of(hello) == WANTED


def test_more_is_waited_for_until_all_is_there():
    assert [hello_of(BOTH[:size]) for size in range(len(BOTH))] == [None] * len(BOTH)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_it_may_come_in_several_records(sizes):
    content, records = BOTH[5:], b""
    for size in [*sizes, len(content)]:
        part, content = content[:size], content[size:]
        if part:
            records += b"\x16\x03\x01" + len(part).to_bytes(2) + part
    assert hello_of(records) == WANTED


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x16\x02\x01",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
    ],
)
def test_what_is_no_client_hello_is_said_at_once(data):
    with pytest.raises(NotTls):
        hello_of(data)


def test_one_that_does_not_end_is_given_up():
    endless = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16380)
    assert hello_of(endless) is None
    with pytest.raises(NotTls, match="does not end"):
        hello_of(endless + _records(MOST))


def _records(size):
    return b"".join(b"\x16\x03\x01\x40\x00" + bytes(16384) for _ in range(size // 16384 + 1))


@given(st.binary(max_size=200))
def test_nonsense_is_no_error_of_ours(data):
    with contextlib.suppress(NotTls):
        hello_of(b"\x16\x03\x01" + len(data).to_bytes(2) + b"\x01" + data)


def test_without_a_name_there_is_none():
    random = os.urandom(32)
    body = b"\x03\x03" + random + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    message = b"\x01" + len(body).to_bytes(3) + body
    assert hello_of(b"\x16\x03\x01" + len(message).to_bytes(2) + message) == Hello("", ())
