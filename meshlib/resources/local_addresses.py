"""Addresses of servers as a person writes them: ``localhost:9081``, ``:9081``, ``[::1]:9081``, ``unix:///run/app.sock``."""

from __future__ import annotations

import re
from typing import NamedTuple

from meshlib.resources.types import refuse
from meshlib.resources.validation.addresses import UNIX, is_ip, unix_socket
from meshlib.resources.validation.hosts import domain_problem

LOCALHOST = "localhost"
_EXAMPLE = "for example localhost:9081, :9081, 10.0.0.7:9081, [::1]:9081 or unix:///run/app.sock"
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#]*@)?(?P<authority>[^/?#]*)")
_CREDENTIALS = re.compile(r"[^=,@\s]*[:/][^=,@]*@")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_ONE_SLASH = re.compile(r"unix:(?=/[^/])")


class LocalAddress(NamedTuple):
    """``host`` is an IP address, a name that is resolved, or ``unix:///path``; ``port`` None: the service's own."""

    host: str
    port: int | None


def parse_address(value: object) -> LocalAddress:
    """The address that a text says. No host is localhost, and an IPv6 address with a port stands in brackets. Raises
    ``PydanticCustomError`` (a ValueError) for what is not an address; it repeats no password that a URL may hold."""
    if not isinstance(value, str):
        raise refuse("wrong-type", "an address is a text, found {value}", _EXAMPLE, value=_short(value))
    text = value.strip()
    if not text:
        raise refuse("bad-address", "the address is empty", _EXAMPLE)
    text = _ONE_SLASH.sub(UNIX, text)
    if text.startswith(UNIX):
        return LocalAddress(_socket(text), None)
    url = _URL.match(text)
    if url is not None:
        raise refuse(
            "bad-address",
            "an address has no scheme, found {scheme}://",
            "write {found}; a DestinationRule's tls says whether to use TLS",
            scheme=url["scheme"],
            found=url["authority"][:100] or "localhost:9081",
        )
    if "@" in text:
        raise refuse("bad-address", "an address has no user or password", _EXAMPLE)
    if not is_ip(text) and any(mark in text for mark in "/?#"):
        raise refuse("bad-address", "an address has no path or query", f"only host and port: {_EXAMPLE}")
    host, port = _split(text)
    if not is_ip(host):
        problem = domain_problem(host)
        if problem:
            hint = f"write :{host}" if _PORT.fullmatch(host) and port is None else _EXAMPLE
            raise refuse("bad-address", "{host} is not a host: {problem}", hint, host=_short(host), problem=problem)
    return LocalAddress(host, port)


def hidden(text: str) -> str:
    """A text for messages, in which somebody may have written a user and a password."""
    return _CREDENTIALS.sub("***@", text)


def _socket(text: str) -> str:
    if text.startswith(f"{UNIX}@"):
        raise refuse(
            "bad-address", "abstract sockets are not called", "give the path of a socket: unix:///run/app.sock"
        )
    for notice in unix_socket(text, ()):
        raise refuse("bad-address", "{text}", notice.hint, text=notice.message[:200])
    return text


def _split(text: str) -> tuple[str, int | None]:
    """Host and port, still to be checked as a host."""
    if is_ip(text):
        return text, None
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or not is_ip(host) or (rest and not rest.startswith(":")):
            raise refuse("bad-address", "{text} is not an IPv6 address in brackets", _EXAMPLE, text=_short(text))
        return host, _port(rest[1:], text) if rest else None
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, None
    if ":" in host:
        hint = "an IPv6 address with a port stands in brackets: [::1]:9081"
        raise refuse("bad-address", "{text} has more than one colon", hint, text=_short(text))
    return host or LOCALHOST, _port(port, text)


def _port(port: str, text: str) -> int:
    if not _PORT.fullmatch(port):
        raise refuse("bad-port", "the port of {text} is not a number", "a number 1..65535", text=_short(text))
    number = int(port)
    if not 1 <= number <= 65535:
        raise refuse("bad-port", "port {port} is outside 1..65535", "a number 1..65535", port=number)
    return number


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
