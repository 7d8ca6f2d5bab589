"""The making of an exchange: the outbound one of a call, with what is wrapped around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.fallback import with_fallback
from meshlib.engine.message import R
from meshlib.engine.outbound import outbound

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange


def exchange_of(call: Call[R]) -> Exchange[R]:
    """The exchange of a call, with its fallback if one of the snapshot's policies has any."""
    made = outbound(call)
    return with_fallback(call, made) if call.live.snapshot.fallbacks else made
