"""URLs as Go's ``net/url`` reads them, which is how istiod judges them: what it refuses is refused, nothing else."""

from __future__ import annotations

import re

from meshlib.resources.addresses import is_address

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+\-.]*):")
_STARTS_LIKE_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+\-.]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEX = "[0-9a-fA-F]{2}"
_ESCAPED = re.compile(rf"(?:[^%]|%{_HEX})*", re.DOTALL)
_HOST_CHARACTERS = r"A-Za-z0-9\-_.~!\"$&'()*+,:;<=>\[\]\u0080-\U0010ffff"
_HOST = re.compile(rf"(?:[{_HOST_CHARACTERS}]|%25|%[89a-fA-F][0-9a-fA-F])*")
_ZONE = re.compile(rf"(?:[{_HOST_CHARACTERS}]|%{_HEX})*")
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_PORT = re.compile(r"(:[0-9]*)?")


class BadUrl(ValueError):
    """Why a text is not a URL."""


def scheme_of(text: str) -> str:
    """The scheme in lower case, "" without one. Raises ``BadUrl``."""
    address, _, fragment = text.partition("#")
    scheme = _parsed(address, of_request=False)
    _escapes(fragment)
    return scheme


def scheme_of_request(text: str) -> str:
    """The scheme of an absolute URL or a path, as a request line has it. Raises ``BadUrl``."""
    return _parsed(text, of_request=True)


def _parsed(text: str, *, of_request: bool) -> str:
    if _CONTROL.search(text):
        raise BadUrl("it has a control character")
    if not text and of_request:
        raise BadUrl("it is empty")
    if text == "*":
        return ""
    if text.startswith(":"):
        raise BadUrl("the scheme before : is missing")
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    rest = (text[found.end() :] if found else text).partition("?")[0]
    if not rest.startswith("/"):
        if scheme:
            return scheme  # nothing more is read of mailto:a@b
        if of_request:
            raise BadUrl("it has neither a scheme nor a leading /")
        if ":" in rest.partition("/")[0]:
            raise BadUrl("its first segment has a colon")
    if rest.startswith("//") and (scheme or not (of_request or rest.startswith("///"))):
        authority, slash, path = rest[2:].partition("/")
        _authority(scheme, authority)
        rest = slash + path
    _escapes(rest)
    return scheme


def _escapes(text: str) -> None:
    if not _ESCAPED.fullmatch(text):
        raise BadUrl("a % is not followed by two hexadecimal digits")


def _authority(scheme: str, authority: str) -> None:
    user, at, host = authority.rpartition("@")
    _host(scheme, host)
    if at:
        if not _USER.fullmatch(user):
            raise BadUrl("the user before @ has a character that does not belong there")
        _escapes(user)


def _host(scheme: str, host: str) -> None:
    if "[" in host:
        _literal(host)
        return
    first = host.find(":")
    if first >= 0 and not _PORT.fullmatch(host[first if scheme in ("http", "https") else host.rfind(":") :]):
        raise BadUrl("what follows the host is not a port")
    if not _HOST.fullmatch(host):
        raise BadUrl(f"{host!r} is not a host")


def _literal(host: str) -> None:
    """``[::1]:80``"""
    end = host.rfind("]")
    if host.rfind("[") != 0 or end < 0 or not _PORT.fullmatch(host[end + 1 :]):
        raise BadUrl(f"{host!r} is not an IPv6 address in brackets")
    inside = host[1:end]
    address, percent, zone = inside.partition("%25")
    fits = _HOST.fullmatch(address) is not None and (not percent or _ZONE.fullmatch(zone) is not None)
    if not fits or ":" not in address or not is_address(f"{address}%{zone}" if percent else address):
        raise BadUrl(f"{inside!r} is not an IPv6 address")
