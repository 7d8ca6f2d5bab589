"""The methods of a mesh channel, as its stubs declare them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable


KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

# stubs of newer grpcio register their methods with the channel, which makes their calls a little faster
_REGISTERS = "_registered_method" in inspect.signature(grpc.Channel.unary_unary).parameters
_REGISTERED = {"_registered_method": True} if _REGISTERS else {}


class Method:
    """One method of a channel, as its stub declared it."""

    __slots__ = ("deserialize", "key", "kind", "path", "serialize", "streaming", "target")

    def __init__(
        self,
        kind: str,
        path: str | bytes,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
    ) -> None:
        self.kind = kind
        self.path = path.decode("latin-1") if isinstance(path, bytes) else path
        self.target = self.path.encode("latin-1")
        self.serialize = serialize
        self.deserialize = deserialize
        self.streaming = kind.endswith("_stream")
        self.key = (kind, deserialize)

    def make(self, channel: Any, path: str) -> Any:
        """grpcio's own multicallable; the messages it gets are serialized already."""
        return getattr(channel, self.kind)(path, None, self.deserialize, **_REGISTERED)


class Stubs:
    """What stubs ask of a channel, for both runtimes: a multicallable of each kind. ``callables`` has their classes."""

    callables: ClassVar[dict[str, Any]]

    def _multicallable(self, kind: str, method: Any, serialize: Any, deserialize: Any) -> Any:
        return self.callables[kind](self, Method(kind, method, serialize, deserialize))

    def unary_unary(
        self,
        method: Any,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: Any = False,
    ) -> Any:
        return self._multicallable("unary_unary", method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: Any,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: Any = False,
    ) -> Any:
        return self._multicallable("unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: Any,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: Any = False,
    ) -> Any:
        return self._multicallable("stream_unary", method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: Any,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: Any = False,
    ) -> Any:
        return self._multicallable("stream_stream", method, request_serializer, response_deserializer)
