"""Where an HTTP/1.1 request wants to go: authority and path, out of its target and its Host; of CONNECT host and port."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from meshlib.proxy.forwarded_path import forwarded_path
from meshlib.transport.protocol.http1_request import Refused
from meshlib.transport.protocol.request_target import LONGEST_AUTHORITY, MAX_PORT, is_authority

if TYPE_CHECKING:
    from meshlib.policy.path_spellings import Normalization
    from meshlib.transport.protocol.http1_request import RequestHead

_URL = re.compile(rb"(?i:http)://([^/?]*)(.*)", re.DOTALL)
_NAMED = re.compile(rb"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?")
"""The authority of a URL, of which Envoy takes less than of Host; no userinfo."""
_HOST_AND_PORT = re.compile(rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}")
SEEN: set[bytes] = set()
"""Hosts that were found to be such."""
_HOST = b"\r\nhost:"
_LINE_END = b"\r\n"
MAX_SEEN = 1024
MAX_NAME = 255
"""Bytes of a name, or of an address in brackets."""


def destination(head: RequestHead, normalization: Normalization) -> tuple[bytes, bytes]:
    """Authority and target (a path and a query) of a request. A URL's authority is the one, whatever Host says. Raises
    ``Refused``."""
    target, authority = head.target, head.host
    if target[:1] == b"/" and authority in SEEN and head.method != b"CONNECT":  # nearly all
        return authority, forwarded_path(target, normalization)
    if head.method == b"CONNECT":
        raise Refused(501 if target[:1] != b"/" else 400, "CONNECT is for outbound ports", "connect_is_not_allowed")
    if target[:1] != b"/":
        authority, target = _of_url(head)
    elif not is_authority(authority.decode("latin-1")):
        raise Refused(400, f"Host is {authority[:100]!r}, which is not a host with or without a port")
    else:
        if len(SEEN) >= MAX_SEEN:
            SEEN.clear()
        SEEN.add(authority)
    return authority, forwarded_path(target, normalization)


def with_host(lines: bytes, lower: bytes, authority: bytes) -> bytes:
    """The lines, with another Host where it stood."""
    at = lower.find(_HOST)
    end = lower.find(_LINE_END, at + 2)
    return b"%bHost: %b%b" % (lines[:at], authority, lines[end - 2 :])


def connect_authority(head: RequestHead) -> bytes:
    """Host and port that a CONNECT asks for (RFC 9112, 3.2.3), both of them said, and said once: a Host that names another one
    is refused, as is a body. Raises ``Refused``."""
    target = head.target
    if _HOST_AND_PORT.fullmatch(target) is None:
        raise Refused(400, "the target of CONNECT is not HOST:PORT")
    name, _, port = target.rpartition(b":")
    if int(port) > MAX_PORT or len(name) > MAX_NAME or b".." in name or (name[:1] == b"[" and not _is_ipv6(name)):
        raise Refused(400, f"the target of CONNECT, {target[:300]!r}, is not a valid host and port")
    if head.host.lower() not in (target.lower(), name.lower()):
        raise Refused(400, f"Host is {head.host[:300]!r}, which is not the target of CONNECT")
    if head.length != 0:
        raise Refused(400, "CONNECT has a body")
    if head.upgrade:
        raise Refused(400, "CONNECT has an Upgrade, too")
    return target


def _is_ipv6(name: bytes) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, name[1:-1].decode("ascii"))
    except OSError:
        return False
    return True


def _of_url(head: RequestHead) -> tuple[bytes, bytes]:
    url = _URL.fullmatch(head.target)
    if url is None:
        if head.target == b"*" and head.method == b"OPTIONS":
            raise Refused(404, "no route takes OPTIONS *")
        raise Refused(400, "the request's target is neither a path nor an http URL")
    authority, path = url[1], url[2]
    named = _NAMED.fullmatch(authority)
    if named is None or int(named[1] or 0) > MAX_PORT or len(authority) > LONGEST_AUTHORITY:
        raise Refused(
            400,
            "the request's URL has no host, or one that is too long or not a name or an address with or without a port",
        )
    if path[:1] == b"?":
        raise Refused(404, "the request's URL has a query and no path: no route takes it")
    return authority, path or b"/"
