"""The making of an exchange: the outbound one of a call, with what is wrapped around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.fallback import with_fallback
from meshlib.engine.message import R
from meshlib.engine.outbound import outbound

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange, Send


def exchange_of(call: Call[R], brief: bool = False) -> Exchange[R]:
    """The exchange of a call, with its fallback if one of the snapshot's policies has any. ``brief``: see ``outbound``; one
    with a fallback never is."""
    return with_fallback(call, outbound(call)) if call.live.snapshot.fallbacks else outbound(call, brief)


def goes_on(call: Call[R], send: Send[R]) -> Exchange[R]:
    """The exchange of a plain call (``plain_call.py``) that is more than its attempt: as one that has asked for ``send``."""
    exchange = outbound(call, True, send)
    next(exchange)
    return exchange
