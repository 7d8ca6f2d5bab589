"""How large a message of gRPC is on the wire."""

from __future__ import annotations

import pytest

from meshlib.engine.message_size import FRAME, length_of, size_in, size_of_message
from tests.support.grpc_echo import Message


def test_a_message_of_protobuf_is_as_long_as_its_bytes_and_what_frames_them() -> None:
    message = Message(text="a" * 300, payload=b"b" * 70_000)
    assert size_of_message(message) == FRAME + len(message.SerializeToString())


def test_bytes_are_a_message_and_what_does_not_know_its_size_has_none() -> None:
    assert size_of_message(b"") == FRAME
    assert size_of_message({"text": "a"}) == 0


@pytest.mark.parametrize("size", [5, 6, 69, 70_000])
def test_what_follows_the_first_byte_of_a_message_says_how_long_it_is(size: int) -> None:
    message = b"\1" + (size - FRAME).to_bytes(4, "big") + b"x" * (size - FRAME)
    assert message.startswith(length_of(size), 1)
    assert size_in(message) == (size - FRAME,)
    for other in (message[:-1], message + b"x"):
        assert not other.startswith(length_of(len(other)), 1)


def test_fewer_bytes_than_a_frame_has_are_no_message() -> None:
    assert not any((b"\0" * size).startswith(length_of(size), 1) for size in range(FRAME))
