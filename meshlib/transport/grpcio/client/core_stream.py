"""Reading grpcio's streams of responses in threads, and counting what is read.

grpcio's ``__next__`` does nothing but call its ``_next``, which has no public name. Called at once it saves the function that
the mesh's own stream puts around each message. Where grpcio's ``__next__`` is another one, that is called.

Messages are counted where grpcio deserializes them, as they come, in the thread that is told of the stream's end after them:
whoever reads them may only then get to run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshlib.engine.message_size import FRAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshlib.engine.call import Call
    from meshlib.transport.grpcio.client.request import ThreadRequest

NEXT = "_next"
DESERIALIZER = "_response_deserializer"
_ABSENT: Any = object()


def reader_of(stream: Iterator[object]) -> Callable[[], object]:
    """What returns the next message of a stream, and raises what ``next(stream)`` does."""
    code = getattr(type(stream).__next__, "__code__", None)
    only_calls_it = code is not None and code.co_names == (NEXT,) and code.co_consts == (None,)
    read: Callable[[], object] | None = getattr(stream, NEXT, None) if only_calls_it else None
    return stream.__next__ if read is None else read


def count_messages(stream: object, call: Call[ThreadRequest]) -> bool:
    """Count the messages of a stream on its call. False: this is no stream of grpcio's that we know, so the reader must."""
    found = getattr(stream, DESERIALIZER, _ABSENT)
    if found is _ABSENT:
        return False
    deserialize: Callable[[bytes], object] | None = found

    def counted(data: bytes) -> object:
        call.messages += 1
        call.streamed += FRAME + len(data)
        return data if deserialize is None else deserialize(data)

    setattr(stream, DESERIALIZER, counted)
    return True
