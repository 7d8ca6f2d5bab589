"""Attributes that come late make no dictionary for each instance."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from meshlib.engine.shared_keys import share_keys
from meshlib.proxy.http2_call import Http2Call
from meshlib.transport.protocol.http2_server_stream import ServerStream
from meshlib.transport.protocol.http2_stream import Stream

pytestmark = pytest.mark.skipif(sys.implementation.name != "cpython", reason="it is about CPython's instances")
MANY = 100


def has_dictionary(instance: Any) -> bool:
    """Of attributes, of its own."""
    return any(type(each) is dict for each in gc.get_referents(instance))


def begun_at_once(made: type[Any]) -> list[Any]:
    """Many, before the first of them ends."""
    calls = [made() for _ in range(MANY)]
    for call in calls:
        call.status = 200
        call.whole = b"x"
        call.trailers = ()
    return calls


class _Call:
    status = 0
    whole: bytes | None = None
    trailers: tuple[str, ...] | None = None

    def __init__(self) -> None:
        self.began = 1.0

    @property
    def over(self) -> bool:
        return self.status > 0


def test_without_it_an_attribute_that_comes_late_makes_a_dictionary() -> None:
    assert all(map(has_dictionary, begun_at_once(type("Call", (), dict(vars(_Call))))))


def test_with_it_none_has_one() -> None:
    assert not any(map(has_dictionary, begun_at_once(share_keys(type("Call", (), dict(vars(_Call)))))))


def test_attributes_of_a_base_are_known_too() -> None:
    @share_keys
    class Derived(_Call):
        more = 0

    calls = begun_at_once(Derived)
    for call in calls:
        call.more = 1
    assert not any(map(has_dictionary, calls))


def test_nothing_else_changes() -> None:
    @share_keys
    class Call(_Call):
        pass

    call = Call()
    assert vars(call) == {"began": 1.0}
    assert call.status == 0
    assert not call.over


@pytest.mark.parametrize("made", [Stream, ServerStream, Http2Call], ids=lambda made: made.__name__)
def test_streams_have_none_however_many_begin_at_once(made: type[Any]) -> None:
    streams = [made.__new__(made) for _ in range(MANY)]
    for stream in streams:
        for name, value in vars(made).items():
            if type(value) in (bool, int, type(None), bytes, tuple, list):
                setattr(stream, name, value)
        stream.id = 1
    assert not any(map(has_dictionary, streams))
