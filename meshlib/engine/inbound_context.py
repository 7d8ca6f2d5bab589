"""The request that this program is serving right now, as its handler (and whatever the handler calls) may ask for it.

Rules: what is set around a piece of the handler is taken back when that piece ends, by the same thread or task, so that
nothing leaks into the next request of a pooled thread and a response generator sees its own request at every step.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

from meshlib.engine import deadlines
from meshlib.engine.inbound_request import InboundRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from meshlib.engine.inbound import InboundCall

    Tokens: TypeAlias = tuple[
        Token[InboundRequest | InboundCall | None],
        Token[float | deadlines.Until | None] | None,
        Callable[[], None] | None,
    ]

current: ContextVar[InboundRequest | InboundCall | None] = ContextVar("meshlib_inbound", default=None)
"""None: no request is being served here. A call where its door makes the request only when somebody asks: see ``here``."""


def here() -> InboundRequest | None:
    """The request that is being served here, None where none is."""
    found = current.get()
    return found if found is None or isinstance(found, InboundRequest) else found.request


def enter(call: InboundCall) -> Tokens:
    """The handler of ``call`` runs from here: its request, deadline and span are the current ones."""
    around, until, deadline = call.around, call.until, None
    if call.propagates and (until is not None or deadlines.current.get() is not None):
        deadline = deadlines.current.set(until)
    return current.set(call.request), deadline, None if around is None else around.enter()


def leave(_call: InboundCall, tokens: Tokens) -> None:
    """To here. In the reverse order, in the context in which ``enter`` ran."""
    request, deadline, around = tokens
    if around is not None:
        around()
    if deadline is not None:
        deadlines.current.reset(deadline)
    current.reset(request)
