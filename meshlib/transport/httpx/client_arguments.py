"""What ``mesh.client()`` and ``mesh.async_client()`` make a client with: httpx's own arguments, so that no request passes the
mesh by.

httpx gives a request to the transport that is mounted for its URL, and puts proxies there, so that proxied requests would
pass the mesh by. Here the mesh's transport stands in each of those places and has the other one behind it, for hosts
outside the registry (``other_way.py``).
"""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.httpx_module import HttpxModule

_OF_TRANSPORTS = ("verify", "cert", "http2", "limits")
_DROPPED = {
    "proxies": "httpx 0.28 dropped proxies=; give proxy=, or mounts={pattern: httpx.HTTPTransport(proxy=...)}",
    "app": "httpx 0.28 dropped app=; give transport=httpx.WSGITransport(app=...) or httpx.ASGITransport(app=...)",
}


def arguments(
    make_transport: Callable[..., Any],
    kwargs: dict[str, Any],
    own_transport: type[Any],
    local_replies: str,
    module: HttpxModule,
) -> dict[str, Any]:
    """What ``Client`` (or ``AsyncClient``) of ``module`` is to be made with, so that no request passes the mesh by.

    ``make_transport`` is ``mesh.http_transport`` or its twin, ``own_transport`` the module's own class for proxies. Raises
    TypeError and ValueError for arguments that could not act.
    """
    for name, remedy in _DROPPED.items():
        if kwargs.get(name) is not None:
            raise TypeError(remedy)
    if not kwargs.pop("http1", True):
        raise ValueError(
            "http1=False: the mesh decides by which protocol a service is called. Name the service's "
            "port http2 (or grpc), or give its DestinationRule connectionPool.http.h2UpgradePolicy: UPGRADE; http2=True "
            "offers HTTP/2 to https URLs"
        )
    inner = kwargs.pop("transport", None)
    trust_env = kwargs.get("trust_env", True)
    said = {name: kwargs.pop(name) for name in _OF_TRANSPORTS if name in kwargs}
    transport = make_transport(inner, local_replies=local_replies, trust_env=trust_env, module=module, **said)
    ways: dict[str, Any] = dict(environment_proxies(module) if trust_env and inner is None else ())
    proxy, mounts = kwargs.pop("proxy", None), kwargs.pop("mounts", None)
    if proxy is not None:
        ways = {"all://": proxy}  # as in httpx: the environment does not count then
    behind = {
        pattern: None
        if way is None
        else transport.with_other_way(own_transport(proxy=way, trust_env=trust_env, **said), "")
        for pattern, way in ways.items()
    }
    for pattern, mounted in dict(mounts or {}).items():
        behind[pattern] = None if mounted is None else transport.with_other_way(mounted, pattern)
    return {**kwargs, "transport": transport, "mounts": behind}


def environment_proxies(module: HttpxModule) -> Mapping[str, str | None]:
    """Proxies by URL patterns, None where there is to be none: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as ``module``
    reads them (a test compares)."""
    found = urllib.request.getproxies()
    exempt = [host.strip() for host in found.get("no", "").split(",") if host.strip()]
    if "*" in exempt:
        return {}
    proxies: dict[str, str | None] = {}
    for scheme in ("http", "https", "all"):
        proxy = found.get(scheme)
        if proxy:
            proxies[f"{scheme}://"] = proxy if "://" in proxy else f"http://{proxy}"
    if module.__name__ == "httpx":
        return {**proxies, **{_pattern_of(host): None for host in exempt}}
    for host in exempt:
        pattern = _pattern_in_httpx2(host)
        if pattern is None:
            continue
        with contextlib.suppress(module.InvalidURL):  # httpx2 passes over a name that cannot be read
            module.Client(transport=module.BaseTransport(), mounts={pattern: None})
            proxies[pattern] = None
    return proxies


def _pattern_of(host: str) -> str:
    """The URL pattern of a name in NO_PROXY."""
    if "://" in host:
        return host
    try:
        address = ipaddress.ip_address(host.split("/")[0])
    except ValueError:
        return f"all://{host}" if host.lower() == "localhost" else f"all://*{host}"
    return f"all://[{host}]" if address.version == 6 else f"all://{host}"


def _pattern_in_httpx2(host: str) -> str | None:
    """The same to httpx2, which also knows networks, ``[::1]`` and ``*.name``; None for what it passes over."""
    pattern = _pattern_of(host)
    if not pattern.startswith("all://") or "://" in host:
        return pattern
    if pattern.startswith("all://["):  # an address of IPv6; its network is behind the bracket
        address, slash, network = host.partition("/")
        return f"all://[{address}]{slash}{network}"
    if not pattern.startswith("all://*"):
        return pattern
    if host.startswith("[") or (host.startswith("*.") and "/" not in host):
        return f"all://{host}"
    return None if "/" in host else pattern
