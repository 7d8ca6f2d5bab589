"""Drivers of a call whose exchange is only made where the call is more than a plain one (``plain_call.py``), as few are.

They perform what ``run_brief`` and ``run_brief_async`` of the call's exchange would, and return, with what it came to, the
exchange that there is to ``finish`` (None: none). For calls that are made by ``exchange_of`` alone and have no span.

The doors of gRPC begin a call and end its attempt themselves, for each function that need not be called shows in `make bench`,
and come here with what is left of it (``go_on``, ``go_on_async``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.drivers import run, run_async, run_brief, run_brief_async
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.exchange import exchange_of, goes_on
from meshlib.engine.message import R
from meshlib.engine.plain_call import begun, ended, given_up

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.drivers import AsyncRuntime, SyncRuntime
    from meshlib.engine.effects import Exchange

Came = tuple[Send[R] | Deliver, "Exchange[R] | None"]


def run_call(call: Call[R], runtime: SyncRuntime[R]) -> Came[R]:
    """In this thread. Whatever interrupts it gives everything back first."""
    send: Send[R] | Deliver | None = None
    try:
        send = begun(call)
        if type(send) is Send:
            send.outcome = runtime.send(send)
            if ended(call, send):
                return send, None  # nearly always
        return go_on(call, send, runtime)
    except BaseException:
        break_off(send)
        raise


def go_on(call: Call[R], send: Send[R] | Deliver | None, runtime: SyncRuntime[R]) -> Came[R]:
    """What is left of a call that has ``begun`` with ``send``, in this thread: an attempt has its outcome, and the call is not
    ``ended`` with that. Whatever interrupts it gives everything back first."""
    if type(send) is Deliver:
        return send, None
    if type(send) is not Send:
        exchange = exchange_of(call, brief=True)
        delivered = run_brief(exchange, runtime)
        return delivered, exchange if type(delivered) is Deliver else None
    exchange = goes_on(call, send)
    try:
        effect = next(exchange, None)
        if effect is None:
            return send, None
        return effect if type(effect) is Deliver else run(exchange, runtime, effect), exchange
    except BaseException:
        exchange.close()
        raise


async def go_on_async(call: Call[R], send: Send[R] | Deliver | None, runtime: AsyncRuntime[R]) -> Came[R]:
    """The same in this task."""
    if type(send) is Deliver:
        return send, None
    if type(send) is not Send:
        exchange = exchange_of(call, brief=True)
        delivered = await run_brief_async(exchange, runtime)
        return delivered, exchange if type(delivered) is Deliver else None
    exchange = goes_on(call, send)
    try:
        effect = next(exchange, None)
        if effect is None:
            return send, None
        return effect if type(effect) is Deliver else await run_async(exchange, runtime, effect), exchange
    except BaseException:
        exchange.close()
        raise


def break_off(send: Send[R] | Deliver | None) -> None:
    """Nobody waits for the attempt any more, if there is one. What has been given back is not given back again."""
    if type(send) is Send:
        given_up(send)
