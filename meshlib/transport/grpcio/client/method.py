"""The methods of a mesh channel, as its stubs declare them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from meshlib.engine.message_size import FRAME
from meshlib.transport.grpcio.contracts import Deserializer, Req, Resp, Serializer

if TYPE_CHECKING:
    from collections.abc import Callable

MethodKey = tuple[str, Deserializer[object] | None]
"""By which the multicallables of a channel to an endpoint are told apart, beside their path."""


class Method(Generic[Req, Resp]):
    """One method of a channel. ``kind``: "unary_unary", "unary_stream", "stream_unary" or "stream_stream";
    ``streaming``: whether its response is a stream; ``bare``: bytes of a request without metadata and without its message."""

    __slots__ = ("bare", "deserialize", "key", "kind", "path", "serialize", "streaming", "target")

    def __init__(
        self, kind: str, path: str | bytes, serialize: Serializer[Req] | None, deserialize: Deserializer[Resp] | None
    ) -> None:
        self.kind = kind
        self.path = path.decode("latin-1") if isinstance(path, bytes) else path
        self.target = self.path.encode("latin-1")
        self.bare = len("POST") + len(self.path) + FRAME
        self.serialize = serialize
        self.deserialize = deserialize
        self.streaming = kind.endswith("_stream")
        self.key: MethodKey = (kind, deserialize)


class Named(Method[object, object]):
    """A method of which only the name is known, where no call is made."""

    __slots__ = ()

    def __init__(self, path: str) -> None:
        super().__init__("unary_unary", "", None, None)
        self.path = path
        self.target = path.encode("latin-1", "replace")
        self.bare = len("POST") + len(path) + FRAME


UnaryUnary = TypeVar("UnaryUnary")
UnaryStream = TypeVar("UnaryStream")
StreamUnary = TypeVar("StreamUnary")
StreamStream = TypeVar("StreamStream")


class Stubs(Generic[UnaryUnary, UnaryStream, StreamUnary, StreamStream]):
    """What stubs ask of a channel, for both runtimes: a multicallable of each kind. The attributes are their classes."""

    of_unary_unary: Callable[..., UnaryUnary]
    of_unary_stream: Callable[..., UnaryStream]
    of_stream_unary: Callable[..., StreamUnary]
    of_stream_stream: Callable[..., StreamStream]

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer[Req] | None = None,
        response_deserializer: Deserializer[Resp] | None = None,
        _registered_method: bool = False,
    ) -> UnaryUnary:
        return self.of_unary_unary(self, Method("unary_unary", method, request_serializer, response_deserializer))

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer[Req] | None = None,
        response_deserializer: Deserializer[Resp] | None = None,
        _registered_method: bool = False,
    ) -> UnaryStream:
        return self.of_unary_stream(self, Method("unary_stream", method, request_serializer, response_deserializer))

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer[Req] | None = None,
        response_deserializer: Deserializer[Resp] | None = None,
        _registered_method: bool = False,
    ) -> StreamUnary:
        return self.of_stream_unary(self, Method("stream_unary", method, request_serializer, response_deserializer))

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer[Req] | None = None,
        response_deserializer: Deserializer[Resp] | None = None,
        _registered_method: bool = False,
    ) -> StreamStream:
        return self.of_stream_stream(self, Method("stream_stream", method, request_serializer, response_deserializer))
