"""How a forked child leaves behind what is its parent's: its sockets, and everything that the parent's threads may hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol


class Closable(Protocol):
    """A socket."""

    def fileno(self) -> int: ...
    def detach(self) -> int: ...


class ThisProcess:
    """``pid`` of this process, without asking the system for it each call (half a microsecond; row ``fastpath``)."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.look()
        os.register_at_fork(after_in_child=self.look)

    def look(self) -> None:
        """In a forked child it is another."""
        self.pid = os.getpid()


this_process = ThisProcess()
"""Registered before the meshes are: what a fork means for them is done when it is right."""


def close_copy(sock: Closable) -> None:
    """Close the child's copy of a socket; the peer and the parent notice nothing. A thread of the parent may have been about
    to close it at the fork, or had done so."""
    if sock.fileno() >= 0:
        # detach first: closing a socket object never writes, but must not shut the peer down either
        os.close(sock.detach())


def take_all(steps: Iterable[Callable[[], object]]) -> None:
    """Take every step, whatever one of them raises: the parent's channels that are left because a socket could not be closed
    would hang the child. The first error is raised when all have been taken."""
    failed: BaseException | None = None
    for step in steps:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 (raised below)
            failed = failed or error
    if failed is not None:
        raise failed
