"""Makes a ``SentHead`` of headers: what is the same for every request that has them is found out once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.transport.protocol.http2_headers import planned
from meshlib.transport.protocol.request_head import InvalidHead, encode_head
from meshlib.transport.protocol.sent_head import SentHead

if TYPE_CHECKING:
    from meshlib.policy.header_ops import RawHeaders

_OF_A_BODY = frozenset((b"content-length", b"transfer-encoding", b"expect", b"trailer", b"upgrade"))
_METHOD, _TARGET, _LINE = b"GET", b"/", b"GET / HTTP/1.1\r\n"


def sent_head_of(headers: RawHeaders) -> SentHead | None:
    """None for headers that are wrong, or of which more is to be said with each request: of a body, an upgrade, secrets."""
    if not _OF_A_BODY.isdisjoint([name.lower() for name, _ in headers]):
        return None
    try:
        head = encode_head(_METHOD, _TARGET, headers)
    except InvalidHead:
        return None
    over_http2 = planned(headers)
    if over_http2 is None:
        return None
    made = SentHead(headers)
    made.lines = head.removeprefix(_LINE)
    made.written, made.authority = over_http2
    return made
