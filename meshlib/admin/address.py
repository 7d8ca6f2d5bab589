"""What ``admin=`` and MESHLIB_ADMIN say: the address of a mesh's admin endpoint."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from meshlib.problems import ConfigError, Problem, Severity

FORMS = "write unix (a socket in your runtime folder), unix:/run/app/admin-{pid}.sock or 127.0.0.1:15000"
LONGEST_PATH = 107
"""Bytes of a unix socket's path: the kernel takes no more."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket. ``path`` "" is the process's own in the user's runtime folder; ``{pid}`` in it stands for the number of
    the process that listens."""

    path: str

    @property
    def each_process(self) -> bool:
        """Whether a forked child has a socket of its own."""
        return not self.path or "{pid}" in self.path

    def of(self, pid: int) -> str:
        """The path for a process."""
        return self.path.replace("{pid}", str(pid))

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else "unix"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A loopback address; port 0 picks a free one."""

    host: str
    port: int

    each_process = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = UnixAddress | TcpAddress


def parse_address(text: str, what: str = "admin") -> Address:
    """The address that ``text`` means. Raises ``ConfigError`` naming ``what`` for one that is not valid, and for a TCP address
    that others than this machine could reach."""
    if not isinstance(text, str):
        raise _wrong(what, text, "is not an address", FORMS)
    if text in ("unix", "unix:"):
        return UnixAddress("")
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:"), text, what)
    return _tcp(text, what)


def _unix(path: str, text: str, what: str) -> UnixAddress:
    if path.startswith("//"):  # as gRPC writes them: unix:///run/a.sock
        path = path[2:]
    if path.startswith("@") or "\0" in path:
        raise _wrong(what, text, "is an abstract socket, which has no permissions: every user could read it", FORMS)
    if not path or path.endswith("/"):
        raise _wrong(what, text, "does not name a file", FORMS)
    if len(os.fsencode(path.replace("{pid}", "4194304"))) > LONGEST_PATH:
        raise _wrong(what, text, f"is longer than a unix socket's path may be ({LONGEST_PATH} bytes)", FORMS)
    return UnixAddress(path)


def _tcp(text: str, what: str) -> TcpAddress:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise _wrong(what, text, "is not a unix socket and not HOST:PORT", FORMS)
    bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bracketed else host
    if name == "localhost":
        return TcpAddress("127.0.0.1", int(port))
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        address = None
    if address is None or (address.version == 6) is not bracketed:
        raise _wrong(what, text, "has a host that is not an IP address", FORMS)
    if not address.is_loopback:
        raise _wrong(
            what,
            text,
            "can be reached from other machines, and the admin endpoint does not authenticate its callers",
            f"write 127.0.0.1:{port}, or a unix socket; from elsewhere: ssh -L, or kubectl port-forward",
        )
    return TcpAddress(str(address), int(port))


def _wrong(what: str, text: object, why: str, hint: str) -> ConfigError:
    return ConfigError([Problem("admin-address", Severity.ERROR, what, 0, 0, "", f"{text!r} {why}", hint)])
