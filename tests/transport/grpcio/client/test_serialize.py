"""Request messages are bytes when they are sent, and nothing but bytes."""

from __future__ import annotations

import grpc
import pytest

from meshlib.transport.grpcio.client.errors import RpcFailed
from meshlib.transport.grpcio.client.method import Method
from meshlib.transport.grpcio.client.serialize import only_bytes, serializer_of, to_bytes


class Buffer(bytes):
    """What some serializers make."""


def serializer(serialize=None):
    return serializer_of(Method("unary_unary", "/s/m", serialize, None))


def test_a_message_is_serialized_as_the_stub_says():
    assert serializer(str.encode)("é") == "é".encode()
    assert serializer()(b"raw") == b"raw"
    made = serializer()(Buffer(b"raw"))
    assert (made, type(made)) == (b"raw", bytes)
    assert to_bytes("a", str.encode) == to_bytes(b"a", None) == b"a"


@pytest.mark.parametrize(
    ("serialize", "message"), [(None, "text"), (lambda message: 1 / 0, b""), (lambda message: None, b"")]
)
def test_one_that_cannot_be_is_what_grpcio_raises_with_its_reason(serialize, message, caplog):
    with pytest.raises(RpcFailed) as raised:
        serializer(serialize)(message)
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INTERNAL, "Exception serializing request!")
    assert raised.value.__cause__ is not None
    assert "a request of /s/m could not be serialized" in caplog.text


def test_what_is_no_bytes_says_what_is_missing():
    with pytest.raises(TypeError, match="not str: give the stub's method a request_serializer"):
        only_bytes("text")
