"""What becomes of connections over mTLS of the mesh when the certificates that they stand on are replaced, or worth nothing any
more: decided once, for pools of threads and of event loops, over HTTP/1.1 and HTTP/2. How one is closed is its pool's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

from meshlib.identity.servers import Standing

if TYPE_CHECKING:
    from meshlib.identity.servers import Vouched

Judge = Callable[["Vouched"], Standing]


class Stands(Protocol):
    """A connection. ``vouched``: what it stands on, None of one that is not over mTLS of the mesh."""

    @property
    def vouched(self) -> Vouched | None: ...


class Tunnelled(Protocol):
    """One that carries bytes, not calls."""

    @property
    def vouched(self) -> Vouched | None: ...

    def cut(self) -> None:
        """Its certificates are worth nothing any more."""
        ...


Connection = TypeVar("Connection", bound=Stands)


def any_mutual(connections: Iterable[Stands]) -> bool:
    """Whether one of them is over mTLS of the mesh."""
    return any(connection.vouched is not None for connection in connections)


def let_go(
    connections: Iterable[Connection],
    standing: Judge,
    drain: Callable[[Connection], object],
    cut: Callable[[Connection], object],
) -> None:
    """``drain`` those that are to take no new call: idle ones close now, others with their last call. ``cut`` those whose calls
    may not go on either, after that; they may be closed by then."""
    for connection in connections:
        vouched = connection.vouched
        if vouched is None:
            continue
        found = standing(vouched)
        if found is Standing.USED:
            continue
        drain(connection)
        if found is Standing.CUT:
            cut(connection)
