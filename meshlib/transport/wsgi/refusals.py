"""A refusal, as a WSGI server sends it."""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.wsgi.contracts import Pieces, StartResponse


def refused(call: InboundCall, refusal: Refusal, start_response: StartResponse) -> Pieces:
    """Begin the response, and its body: none to HEAD. What has been sent of the request stays unread."""
    request = call.request
    headers = request.response_headers(refusal.http_headers())
    body = b"" if request.method == "HEAD" else refusal.content
    call.responding(refusal.status)
    call.response_bytes += len(body)
    start_response(
        status_line(refusal.status), [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    )
    return [body] if body else []


@functools.lru_cache(128)
def status_line(status: int) -> str:
    """``403 Forbidden``."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"
