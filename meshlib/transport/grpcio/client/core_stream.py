"""Reading grpcio's streams of responses in threads.

grpcio's ``__next__`` does nothing but call its ``_next``, which has no public name. Called at once it saves the function that
the mesh's own stream puts around each message. Where grpcio's ``__next__`` is another one, that is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEXT = "_next"


def reader_of(stream: Iterator[object]) -> Callable[[], object]:
    """What returns the next message of a stream, and raises what ``next(stream)`` does."""
    code = getattr(type(stream).__next__, "__code__", None)
    only_calls_it = code is not None and code.co_names == (NEXT,) and code.co_consts == (None,)
    read: Callable[[], object] | None = getattr(stream, NEXT, None) if only_calls_it else None
    return stream.__next__ if read is None else read
