"""Where an HTTP/1.1 request wants to go: authority and path, out of its target and its Host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from meshlib.proxy.forwarded_path import forwarded_path
from meshlib.transport.protocol.http1_request import Refused
from meshlib.transport.protocol.request_target import is_authority

if TYPE_CHECKING:
    from meshlib.policy.path_spellings import Normalization
    from meshlib.transport.protocol.http1_request import RequestHead

_URL = re.compile(rb"(?i:http)://([^/?]*)(.*)", re.DOTALL)
_NAMED = re.compile(rb"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
"""The authority of a URL, of which Envoy takes less than of Host; no userinfo."""
MAX_PORT = 65535


def destination(head: RequestHead, normalization: Normalization) -> tuple[bytes, bytes]:
    """Authority and target (a path and a query) of a request. A URL's authority is the one, whatever Host says. Raises
    ``Refused``."""
    target, authority = head.target, head.host
    if head.method == b"CONNECT":
        raise Refused(501 if target[:1] != b"/" else 400, "CONNECT is not supported yet")
    if target[:1] != b"/":
        authority, target = _of_url(head)
    elif not is_authority(authority.decode("latin-1")):
        raise Refused(400, "the request's Host is empty or not one")
    return authority, forwarded_path(target, normalization)


def _of_url(head: RequestHead) -> tuple[bytes, bytes]:
    url = _URL.fullmatch(head.target)
    if url is None:
        if head.target == b"*" and head.method == b"OPTIONS":
            raise Refused(404, "no route takes OPTIONS *")
        raise Refused(400, "the request's target is neither a path nor an http URL")
    authority, path = url[1], url[2]
    named = _NAMED.fullmatch(authority)
    if named is None or int(named[1] or 0) > MAX_PORT:
        raise Refused(400, "the request's URL has no host, or one that is not a name or an address")
    if path[:1] == b"?":
        raise Refused(404, "the request's URL has a query and no path: no route takes it")
    return authority, path or b"/"
