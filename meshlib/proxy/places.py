"""Where the proxy listens and where its application does, as the command line says it: HOST:PORT and unix:PATH."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

LONGEST_PATH = 107
"""Bytes of a unix socket's path: the kernel takes no more."""


class WrongPlace(ValueError):
    """A place that cannot be: what is wrong with it, and the remedy."""


@dataclass(frozen=True, slots=True)
class TcpPlace:
    """``host`` is an IP address, or for an application a name too. Port 0 picks a free one."""

    host: str
    port: int

    @property
    def family_six(self) -> bool:
        """Whether it is an IPv6 address."""
        return ":" in self.host

    @property
    def for_others(self) -> bool:
        """Whether other machines can connect to a socket that listens there."""
        return not ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixPlace:
    """A unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Place = TcpPlace | UnixPlace
EVERYWHERE = ("0.0.0.0", "::")
"""Hosts of a listener that is at all addresses of its machine."""


def meet(one: str, other: str) -> bool:
    """Whether two sockets of one port, at these hosts, are in each other's way."""
    return one == other or one in EVERYWHERE or other in EVERYWHERE


def listen_place(text: str) -> TcpPlace:
    """Where to listen: ``IP:PORT``, ``[IPv6]:PORT`` or ``localhost:PORT``. Raises ``WrongPlace``."""
    host, port = _split(text, "127.0.0.1:15001", lowest=0)
    if host == "localhost":
        return TcpPlace("127.0.0.1", port)
    try:
        return TcpPlace(str(ipaddress.ip_address(host)), port)
    except ValueError:
        raise WrongPlace(
            f"{host!r} is not an IP address; a listener binds an address of this machine: write 127.0.0.1:{port}, or "
            f"0.0.0.0:{port} for all of them"
        ) from None


def app_place(text: str) -> Place:
    """Where an application listens: ``HOST:PORT`` or ``unix:PATH``. Raises ``WrongPlace``."""
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:"))
    host, port = _split(text, "127.0.0.1:8080 or unix:/run/app.sock", lowest=1)
    return TcpPlace("127.0.0.1" if host == "localhost" else host, port)


def _split(text: str, example: str, lowest: int) -> tuple[str, int]:
    if "://" in text:
        raise WrongPlace(f"{text!r} is a URL; write {example}, without a scheme and a path")
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise WrongPlace(f"{text!r} is not HOST:PORT; write it as {example}")
    if not (port.isascii() and port.isdecimal()):
        raise WrongPlace(f"{port!r} is not a port; write a number from {lowest} to 65535, as in {example}")
    if not lowest <= int(port) <= 65535:
        raise WrongPlace(f"port {port} is not between {lowest} and 65535; write it as in {example}")
    if host.startswith("[") and host.endswith("]"):
        inner = host[1:-1]
        if ":" not in inner:
            raise WrongPlace(f"{host!r} is not an IPv6 address; brackets are for those, as in [::1]:{port}")
        return inner, int(port)
    if ":" in host:
        raise WrongPlace(f"{text!r} is ambiguous; write an IPv6 address in brackets: [{host}]:{port}")
    if any(c.isspace() or c in "/@?#" for c in host):
        raise WrongPlace(f"{host!r} is not a host; write {example}, without a scheme and a path")
    return host, int(port)


def _unix(path: str) -> UnixPlace:
    if path.startswith("//"):  # as gRPC writes them: unix:///run/a.sock
        path = path[2:]
    if not path or path.endswith("/") or "\0" in path:
        raise WrongPlace("unix: does not name a socket; write unix:/run/app.sock")
    if path.startswith("@"):
        raise WrongPlace(
            f"unix:{path} is an abstract socket, which has no permissions: any user could stand in for the application; "
            "write unix:/run/app.sock"
        )
    path = os.path.abspath(path)
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise WrongPlace(f"unix:{path} is longer than a unix socket's path may be ({LONGEST_PATH} bytes)")
    return UnixPlace(path)
