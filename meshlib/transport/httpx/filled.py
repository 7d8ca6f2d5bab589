"""httpx's own objects, filled as their ``__init__`` would have filled them, without its detours (rows "p50" of ``make bench``).

Whether that is the same is found out at import, by a comparison of one of each with what httpx makes itself: with another
httpx, or with ``MESHLIB_PLAIN=1``, its own way is taken.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    import httpx

    from meshlib.httpx_module import HttpxModule
    from meshlib.policy.header_ops import RawHeaders

Triple = tuple[bytes, bytes, bytes]
"""A header as httpx keeps it: the name as it is spelled, the same in lower case, the value."""

_SAMPLE = [(b"Host", b"host", b"a"), (b"X-A", b"x-a", b"1"), (b"x-a", b"x-a", b"2")]
_AS_WRITTEN = operator.itemgetter(0, 2)

headers_as_known: set[type[httpx.Headers]] = set()
"""Classes of headers that are a list of ``Triple`` in ``_list``, and an encoding."""


def raw_headers(headers: httpx.Headers) -> RawHeaders:
    """``headers.raw``."""
    if type(headers) in headers_as_known:
        return list(map(_AS_WRITTEN, headers._list))
    return headers.raw


def filled_headers(kind: type[httpx.Headers], triples: list[Triple]) -> httpx.Headers:
    """Headers that hold ``triples``, which are theirs now."""
    made = kind.__new__(kind)
    made._list = triples
    made._encoding = None
    return made


def fill_response(
    made: httpx.Response,
    status: int,
    headers: httpx.Headers,
    stream: httpx.SyncByteStream | httpx.AsyncByteStream,
    extensions: dict[str, object],
) -> None:
    """What ``Response.__init__`` does when it is given these, and makes nothing of its own of them."""
    made.status_code = status
    made.headers = headers
    made._request = None
    made.next_request = None
    made.extensions = extensions
    made.history = []
    made.is_closed = False
    made.is_stream_consumed = False
    made.default_encoding = "utf-8"
    made.stream = stream
    made._num_bytes_downloaded = 0


def filled_request(
    kind: type[httpx.Request],
    method: str,
    url: httpx.URL,
    headers: httpx.Headers,
    stream: httpx.ByteStream,
    extensions: dict[str, object],
) -> httpx.Request:
    """A request without a body, read. ``stream`` holds nothing."""
    made = kind.__new__(kind)
    made.method = method.upper()
    made.url = url
    made.headers = headers
    made.extensions = extensions
    made.stream = stream
    made._content = b""
    return made


def compare(module: HttpxModule) -> None:
    """Find out whether the headers of ``module`` are as known."""
    if PLAIN:
        return
    try:
        theirs = module.Headers([(name, value) for name, _, value in _SAMPLE])
        ours = filled_headers(module.Headers, list(_SAMPLE))
        if vars(ours) == vars(theirs) and theirs.raw == [(name, value) for name, _, value in _SAMPLE]:
            headers_as_known.add(module.Headers)
    except (AttributeError, TypeError, ValueError):  # of another httpx: it is not as known
        return


def responses_as_known(module: HttpxModule) -> bool:
    """Whether ``fill_response`` does what the module's ``__init__`` does."""
    if module.Headers not in headers_as_known:
        return False
    try:
        headers, stream = module.Headers(), module.ByteStream(b"")
        theirs = module.Response(200, stream=stream, extensions={"a": 1})
        ours = module.Response.__new__(module.Response)
        fill_response(ours, 200, headers, stream, {"a": 1})
        return _same(theirs, ours)
    except (AttributeError, TypeError, ValueError):  # of another httpx: it is not as known
        return False


def requests_as_known(module: HttpxModule) -> bool:
    """Whether ``filled_request`` does what the module's ``__init__`` does with a request that has no body."""
    if module.Headers not in headers_as_known:
        return False
    try:
        stream = module.ByteStream(b"")
        theirs = module.Request("get", "http://a/", headers=[("Host", "a")], stream=stream, extensions={"a": 1})
        theirs.read()
        headers = filled_headers(module.Headers, [(b"Host", b"host", b"a")])
        ours = filled_request(module.Request, "get", theirs.url, headers, stream, {"a": 1})
        return _same(theirs, ours)
    except (AttributeError, TypeError, ValueError):  # of another httpx: it is not as known
        return False


def _same(theirs: object, ours: object) -> bool:
    """Whether they have the same attributes; headers compare by what they hold."""
    return list(map(_shown, sorted(vars(theirs).items()))) == list(map(_shown, sorted(vars(ours).items())))


def _shown(item: tuple[str, object]) -> tuple[str, type, object]:
    name, value = item
    return name, type(value), getattr(value, "_list", value)
