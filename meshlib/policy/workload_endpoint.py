"""Where a SPIFFE Workload API is: the URI of SPIFFE_ENDPOINT_SOCKET, read as the SPIFFE Workload Endpoint specification
demands (its section 4)."""

from __future__ import annotations

import ipaddress

VARIABLE = "SPIFFE_ENDPOINT_SOCKET"
EXAMPLES = "write it as unix:///run/spire/sockets/agent.sock or tcp://127.0.0.1:8081"


def target_of(uri: str) -> str:
    """What gRPC dials: ``unix:/path`` or ``ip:port``. Raises ValueError with what is wrong, as the end of a sentence about
    the URI."""
    for character in uri:
        if not character.isprintable() or character.isspace():
            raise ValueError("has a character that no URI has")
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in ("unix", "tcp"):
        raise ValueError("must have the scheme unix or tcp")
    if "?" in rest:
        raise ValueError(f"has a query, which a {scheme} endpoint must not have")
    if "#" in rest:
        raise ValueError(f"has a fragment, which a {scheme} endpoint must not have")
    if "%" in rest:
        raise ValueError("has a percent-encoded character: write the path or address as it is")
    return _unix(rest) if scheme == "unix" else _tcp(rest)


def _unix(rest: str) -> str:
    """``/path`` or ``///path``: no authority, an absolute path."""
    path = rest
    if rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        if "@" in authority:
            raise ValueError("has userinfo, which a unix endpoint must not have")
        if authority:
            raise ValueError(
                f"has the authority {authority!r}, which a unix endpoint must not have: "
                "an absolute path follows three slashes (unix:///path) or one (unix:/path)"
            )
        path = slash + path
    if not path.strip("/"):
        raise ValueError("has no path, where a unix endpoint must have the absolute path of a socket")
    if not path.startswith("/"):
        raise ValueError("has a path that is not absolute")
    if len(path.encode()) > MOST_BYTES_OF_A_SOCKET:
        raise ValueError(f"has a path of more than {MOST_BYTES_OF_A_SOCKET} bytes, which no unix socket can have")
    return f"unix:{path}"


MOST_BYTES_OF_A_SOCKET = 107
"""Of ``sun_path``, less the zero at its end."""


def _tcp(rest: str) -> str:
    """``//ip:port``: names are not resolved, so that nobody else can be reached by one."""
    if not rest.startswith("//"):
        raise ValueError("has no address: two slashes and ip:port follow tcp:")
    authority, slash, _ = rest[2:].partition("/")
    if "@" in authority:
        raise ValueError("has userinfo, which a tcp endpoint must not have")
    if slash:
        raise ValueError("has a path, which a tcp endpoint must not have")
    if not authority:
        raise ValueError("has no address, where a tcp endpoint must have ip:port")
    host, colon, port = authority.rpartition(":")
    if not colon or (authority.endswith("]")):
        raise ValueError("has no port, where a tcp endpoint must have ip:port")
    if host.startswith("[") and host.endswith("]"):
        address, six = host[1:-1], True
    else:
        address, six = host, False
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f"has {host!r} for an address, which is not a valid IP address") from None
    if (found.version == 6) is not six:
        raise ValueError("has an IPv6 address that is not in brackets" if not six else "has brackets around IPv4")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"has the port {port!r}, which is not a valid port")
    return f"{host}:{int(port)}"
