"""How large a message of gRPC is on the wire."""

from __future__ import annotations

from meshlib.engine.message_size import FRAME, size_of_message
from tests.support.grpc_echo import Message


def test_a_message_of_protobuf_is_as_long_as_its_bytes_and_what_frames_them() -> None:
    message = Message(text="a" * 300, payload=b"b" * 70_000)
    assert size_of_message(message) == FRAME + len(message.SerializeToString())


def test_bytes_are_a_message_and_what_does_not_know_its_size_has_none() -> None:
    assert size_of_message(b"") == FRAME
    assert size_of_message({"text": "a"}) == 0
