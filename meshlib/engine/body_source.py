"""The body of a request that is served, as its door lets checks see the beginning of it. What is seen is kept: the application
reads the body from its first byte, as if nobody had looked.

The client may go away meanwhile: ``peek`` raises then whatever its door catches, and the driver closes the exchange, as when a
request is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeGuard


class BlockingSource(Protocol):
    """One that a thread reads."""

    def peek(self, limit: int) -> tuple[bytes, bool]:
        """All that has come, read on until that is ``limit`` bytes or the body has ended, and whether it has. May be asked
        again, for more."""
        ...


class AwaitedSource(Protocol):
    """One that a task reads."""

    async def peek_async(self, limit: int) -> tuple[bytes, bool]:
        """The same."""
        ...


class CallbackSource(Protocol):
    """One that calls back."""

    def peek_later(self, limit: int, done: Callable[[tuple[bytes, bool]], None]) -> Callable[[], None]:
        """The same, told to ``done``; returns what cancels it."""
        ...


BodySource: TypeAlias = BlockingSource | AwaitedSource | CallbackSource


def is_blocking(source: BodySource) -> TypeGuard[BlockingSource]:
    """Whether it is one that a thread reads."""
    return hasattr(source, "peek")


def is_awaited(source: BodySource) -> TypeGuard[AwaitedSource]:
    """Whether it is one that a task reads."""
    return hasattr(source, "peek_async")


def is_called_back(source: BodySource) -> TypeGuard[CallbackSource]:
    """Whether it is one that calls back."""
    return hasattr(source, "peek_later")


class NoBody:
    """Of a request that has none, in every runtime: a WebSocket's, say."""

    __slots__ = ()

    def peek(self, _limit: int) -> tuple[bytes, bool]:
        return b"", True

    async def peek_async(self, _limit: int) -> tuple[bytes, bool]:
        return b"", True

    def peek_later(self, _limit: int, done: Callable[[tuple[bytes, bool]], None]) -> Callable[[], None]:
        done((b"", True))
        return _nothing_to_cancel


def _nothing_to_cancel() -> None:
    pass


NO_BODY = NoBody()
