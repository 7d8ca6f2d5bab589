"""What the request line and Host of an HTTP/1.1 request name, read once for every server: path, query, authority.

Servers disagree about targets that are not a plain path (uvicorn and gunicorn serve ``http://other/admin`` and ``/admin#x``,
each as something else), so what could be read in two ways is refused before a check has looked at it: Envoy's 400, or stricter.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from meshlib.policy.refusal import Refusal

LONGEST_AUTHORITY = 261
"""Characters: a DNS name of 255, a colon, and a port."""
MAX_PORT = 65535
MAX_SEEN = 1024
KEPT = bytes(range(0x21, 0x7F)).translate(None, b'%\\"<>^`{|}')
"""Bytes that every normalization of paths leaves as they are, but for dots and slashes; ``?``, which ends one, among them."""

# not looked for in what is clear at a glance, as nearly all are (row "proxy-grpc-inprocess")
_UNCLEAR = re.compile(r"[^\x21-\x7e\x80-\xff]|#")
"""What no target may have. Bytes from 80 on are no URI's either, but what they spell is a matter of the path's meaning."""
_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)(?::([1-9][0-9]{0,4}))?")
"""Without userinfo, without a port that readers take for different ones (``:080`` is 80 to one and a part of the name to
another), and without the comma by which servers join two Hosts."""


class Target(NamedTuple):
    """``path`` begins with a slash, or is the ``*`` of OPTIONS; ``query`` is without its ``?``; ``authority`` None: none was
    named."""

    path: str
    query: str
    authority: str | None


def _bad(why: str) -> Refusal:
    return Refusal(400, "Bad Request", flag="DPE", detail=why)


FRAGMENT = _bad("path_has_fragment")
CHARACTERS = _bad("target_has_invalid_characters")
FORM = _bad("target_is_not_a_path")
OTHER_HOST = _bad("target_and_host_differ")
NO_HOST = _bad("missing_host_header")
BAD_HOST = _bad("invalid_host_header")
TWO_LENGTHS = _bad("content_length_and_transfer_encoding")


def read_target(method: str, target: str, host: str | None, *, host_needed: bool = True) -> Target | Refusal:
    """``target`` as in the request line; ``host`` the value of Host (None: there is none), both read as latin-1. HTTP/1.0 needs
    no Host (``host_needed``).

    Refused with 400: controls, spaces, ``#``, a second authority that is not Host, CONNECT and other targets that name no path,
    no Host, and a Host that is not a single ``name`` or ``name:port``."""
    if not (target.isascii() and target.isprintable()) or " " in target or "#" in target:
        unclear = _UNCLEAR.search(target)
        if unclear is not None:
            return FRAGMENT if unclear[0] == "#" else CHARACTERS
    if host is None:
        if host_needed:
            return NO_HOST
    elif not is_authority(host):
        return BAD_HOST
    if not target.startswith("/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            return Target("*", "", host) if target == "*" and method == "OPTIONS" else FORM
        if host is None:
            host = absolute[1]
            if not is_authority(host):
                return BAD_HOST
        elif absolute[1].lower() != host.lower():
            return OTHER_HOST
        target = absolute[2] if absolute[2].startswith("/") else f"/{absolute[2]}"
    elif method == "CONNECT":
        return FORM
    path, _, query = target.partition("?")
    return Target(path, query, host)


def is_authority(host: str) -> bool:
    """Whether it is one ``name``, ``name:port``, or an address like that; a port is 1..65535."""
    return len(host) <= LONGEST_AUTHORITY and _is_authority(host)


@functools.lru_cache(MAX_SEEN)
def _is_authority(host: str) -> bool:
    found = _AUTHORITY.fullmatch(host)
    return found is not None and int(found[1] or 0) <= MAX_PORT
