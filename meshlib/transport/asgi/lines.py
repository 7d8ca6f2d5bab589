"""How the access log reads requests that go straight, in place of ``Straight.facts``: for heads whose headers have the names of
many (``layouts.py``), without handing anything over (row access-log-whole of the benchmarks). What it says is the same
(``tests/transport/asgi/test_lines.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.telemetry.access_log.alike import request_reading
from meshlib.telemetry.access_log.line_code import SAME, Kind, Reading, Side
from meshlib.telemetry.access_log.served import ServedEntry, same_or_number
from meshlib.transport.asgi.known_head import MetHead
from meshlib.transport.asgi.peer import SNI, addresses

if TYPE_CHECKING:
    from meshlib.compiler.access_log.format import Operator
    from meshlib.engine.inbound import InboundCall

_BEGIN = """
    head = call.known
    if type(head) is MetHead:
        return of_met(call, ended, traced)
    head_at, request = call.head_at, call._request
    if (
        head_at
        and head.plain
        and not call._apart
        and not call.made_id
        and (request is None or request.for_application is None)
    ):
        headers, values, line = head.told
        names = tuple(values)
        if len(names) == len(headers):
            there = there_for(names)
            if there is not None:
                return there(call, ended, traced, head, headers, line, head_at) or closer(call, ended, traced)
            meet(names)
    return closer(call, ended, traced)
"""
_PLACED = """
    scope, name, started = call.scope, "", call.started
    if "extensions" in scope and (extensions := scope["extensions"]) and (tls := extensions.get("tls")):
        name = tls.get(SNI, "")
    try:
        version, server, query = scope["http_version"], scope["server"], scope["query_string"]
        peer = address_of(scope["client"])
    except (KeyError, TypeError):  # servers need not tell, nor as a tuple
        return False
    if peer is None:
        return False
"""
_KEY = (
    "call.status, line.method, version, head.who[1], name, server and server[0],"
    " line.port if head.port is None else head.port"
)
_PATH = "(path.encode() if (path := line.path).isascii() else wire_bytes(path))"
_TARGET = f"({_PATH} if not query else {_PATH} + b'?' + query)"


def _reading(operator: Operator) -> Reading | None:
    """As ``OTHERS``' of a request with no hop, no X-Forwarded-For, and a Host that is its authority."""
    name = operator.name
    if name in ("DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS"):
        return Reading("peer.encode()", None, Kind.PLAIN)
    if name == "UPSTREAM_LOCAL_ADDRESS":
        return SAME
    if name == "BYTES_RECEIVED":
        return Reading("call.request_bytes - head.size", None, Kind.NUMBER)
    if name == "BYTES_SENT":
        return Reading("call.response_bytes - call._head_size", None, Kind.NUMBER)
    return request_reading(operator, _TARGET, "{0}") or same_or_number(operator)


_NAMES = {"MetHead": MetHead, "SNI": SNI, "address_of": addresses.get}
PLACED: Side[InboundCall] = Side(
    _PLACED, _reading, "", _NAMES, ServedEntry, key=_KEY, raw=True,
    takes="call, ended, traced, head, headers, line, head_at",
)  # fmt: skip
STRAIGHT: Side[InboundCall] = Side(_BEGIN, _reading, "", _NAMES, ServedEntry, raw=True, placed=PLACED, only_placed=True)
