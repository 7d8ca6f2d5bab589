"""What a server's checks have let in once they let in again: what that rests on beside the request's head and who its peer is.

Most requests that come to a server are like one that came before, to the letter: the same caller, target and headers, the token
among them. Of checks that decide by nothing else it is known what they say. A check that decides by more (an address, a count,
somebody it asks), or that counts what it has decided, has no ``rests_on``, or one that gives None: it is asked each time.
Refusals are never remembered: they are counted, and said in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshlib.engine.check import Check
    from meshlib.engine.inbound_request import InboundRequest


class LetIn(Protocol):
    """Of requests with one head and peer."""

    def holds(self) -> bool:
        """Whether they are let in now: else all checks are asked."""
        ...

    def repeat(self, request: InboundRequest) -> None:
        """Leave on ``request``, which is as it came, what the checks have left on the first of them."""
        ...


RestsOn = Callable[["InboundRequest"], "LetIn | None"]


class _Always:
    __slots__ = ()

    def holds(self) -> bool:
        return True

    def repeat(self, request: InboundRequest) -> None:
        pass


ALWAYS: LetIn = _Always()
"""On nothing more, for as long as there are these checks; and nothing is left on the request."""


def let_in(request: InboundRequest, checks: Sequence[Check]) -> LetIn | None:
    """What it rests on that ``checks`` let in ``request`` (as it came: nothing that they leave is on it); None: on more than
    can be told, or they do not."""
    found = ALWAYS
    for check in checks:
        rests_on: RestsOn | None = getattr(check, "rests_on", None)
        one = None if rests_on is None else rests_on(request)
        if one is None:
            return None
        if one is not ALWAYS:
            if found is not ALWAYS:  # no server has two that look for tokens
                return None
            found = one
    return found
