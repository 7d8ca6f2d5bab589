"""What the handler of a call that may come in gets, in threads and on asyncio: its request, and the context around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from meshlib.transport.grpcio.server.served import note_request
from meshlib.transport.grpcio.server.shown import is_changed
from meshlib.transport.grpcio.server.spliced import SplicedContext, at

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.inbound import InboundCall

Context = TypeVar("Context")


def handed_over(
    call: InboundCall,
    request: object,
    context: Context,
    changed: Callable[[Any, InboundCall], Any],
    counted: Callable[[Any, InboundCall], object] | None,
) -> tuple[object, Context]:
    """``changed`` makes the runtime's context of a call of which checks have changed something, ``counted`` its iterator over a
    stream of requests; None: there is one, counted here."""
    shown: Any = context
    connection = at(shown.peer())
    if connection is not None:
        shown = SplicedContext(shown, connection)
    if is_changed(call):
        shown = changed(shown, call)
    if counted is not None:
        return counted(request, call), shown
    note_request(call, request)
    return request, shown
